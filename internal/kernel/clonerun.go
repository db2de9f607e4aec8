package kernel

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tableCall is one system call for cloneRun.
type tableCall struct {
	nr     uintptr
	args   [6]uintptr
	result uintptr
}

//go:noescape
func cloneRun(nr, arg0, arg1 uintptr, table *tableCall, count uintptr) (pid uintptr)

// cloneTable makes a child that shares our memory and descriptors, executes a table of system calls and exits. The table must stay where it is until the child has ended. It
// is reaped with __WALL: no signal tells of its end.
func cloneTable(nr, arg0, arg1 uintptr, table []tableCall) (pid int, err error) {
	pid = int(masked(func() uintptr { return cloneRun(nr, arg0, arg1, &table[0], uintptr(len(table))) }))
	if pid < 0 {
		return 0, unix.Errno(-pid)
	}
	return pid, nil
}

// masked makes a child in which all signals are blocked: it must never run a signal handler of the Go runtime.
func masked(clone func() uintptr) (pid uintptr) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all, old := ^uint64(0), uint64(0)
	set := func(mask, old *uint64) {
		unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(mask)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
	}
	set(&all, &old)
	pid = clone()
	set(&old, nil)
	return pid
}

// reapTable waits for the child to end.
func reapTable(pid int) error {
	return ignoringEINTR(func() error { _, err := unix.Wait4(pid, nil, unix.WALL, nil); return err })
}
