package kernel

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
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
	return masked(func() uintptr { return cloneRun(nr, arg0, arg1, &table[0], uintptr(len(table))) })
}

// masked makes a child in which all signals are blocked: it must never run a signal handler of the Go runtime.
func masked(clone func() uintptr) (pid int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all, old := ^uint64(0), uint64(0)
	set := func(mask, old *uint64) {
		unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(mask)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
	}
	set(&all, &old)
	pid = int(clone())
	set(&old, nil)
	if pid < 0 {
		return 0, unix.Errno(-pid)
	}
	return pid, nil
}

// UnifiedMounts are the places where systems mount the control groups of version 2, see cgroups(7).
var UnifiedMounts = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}

// cloneApart makes a child for what is to happen after our death, so what kills us with all that belongs to us must not reach it: timeout(1) and shells kill a process group,
// systemd kills a control group. From the first it parts itself by setsid(2); it is born into the root of the second if it may.
func cloneApart(flags uint64, clone func(nr, arg0, arg1 uintptr) uintptr) (pid int, err error) {
	// The kernel gets its address, so it may not be on a stack, which can move.
	var pin runtime.Pinner
	defer pin.Unpin()
	args := new(cloneArgs)
	pin.Pin(args)
	for _, mount := range UnifiedMounts {
		root, err := unix.Open(mount, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		*args = cloneArgs{flags: flags | unix.CLONE_INTO_CGROUP, cgroup: uint64(root)}
		pid, err := masked(func() uintptr { return clone(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args)) })
		unix.Close(root)
		if err == nil {
			return pid, nil
		}
	}
	return masked(func() uintptr { return clone(unix.SYS_CLONE, uintptr(flags), 0) })
}

// partingCalls are how many calls a table for cloneTableApart begins with; part fills them in.
const partingCalls = 2

// part lets the child leave our session, and gives it a name, the address of a C string: one that "pkill kup" does not match.
func part(table []tableCall, name uintptr) {
	table[0] = tableCall{nr: unix.SYS_SETSID}
	table[1] = tableCall{nr: unix.SYS_PRCTL, args: [6]uintptr{unix.PR_SET_NAME, name}}
}

// cloneTableApart is cloneTable and cloneApart. The table is in memory that the child shares.
func cloneTableApart(flags uint64, table []tableCall) (pid int, err error) {
	pid, err = cloneApart(flags, func(nr, arg0, arg1 uintptr) uintptr { return cloneRun(nr, arg0, arg1, &table[0], uintptr(len(table))) })
	if err != nil {
		return 0, fmt.Errorf("clone: %w", err)
	}
	return pid, awaitChild(pid, func() bool { return atomic.LoadUintptr(&table[0].result) != 0 })
}

// awaitChild waits until a child has begun; if it does not, it is killed.
func awaitChild(pid int, begun func() bool) error {
	pause := unix.Timespec{Nsec: 10_000} // time.Sleep may take a millisecond
	for deadline := time.Now().Add(10 * time.Second); !begun(); _ = unix.Nanosleep(&pause, nil) {
		if time.Now().After(deadline) {
			_ = killTable(pid)
			return fmt.Errorf("pid %d does not begin", pid)
		}
	}
	return nil
}

// killTable ends a child of ours that nobody else reaps.
func killTable(pid int) error {
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return fmt.Errorf("pid %d: %w", pid, err)
	}
	if err := reapTable(pid); err != nil {
		return fmt.Errorf("wait for pid %d: %w", pid, err)
	}
	return nil
}

// reapTable waits for the child to end.
func reapTable(pid int) error {
	return ignoringEINTR(func() error { _, err := unix.Wait4(pid, nil, unix.WALL, nil); return err })
}
