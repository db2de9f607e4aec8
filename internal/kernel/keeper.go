package kernel

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// keeper is a small process that traces a thread of ours, to keep it when it is about to end: PTRACE_EVENT_EXIT, see ptrace(2). The tracees of a thread run as soon as that has
// ended, and must not see what wills put right (NewTracersWill). Nor must a system call that another thread has begun undo it, so the keeper waits for the end of these
// before it executes the wills. Then it lets the thread go.
//
// It executes keepThread, which works with the first fields and knows where they are from go_asm.h.
type keeper struct {
	tid     uintptr
	seized  uintptr // result of PTRACE_SEIZE, keeperBegins before
	threads uintptr // path of the folder of this process's threads
	program uintptr // path of a link that the process's first thread has until it ends; an empty path if that is the thread itself
	alone   uintptr // link count of the folder when only these two are left
	wills   atomic.Pointer[willTable]
	pause   unix.Timespec
	status  uintptr     // of wait4(2)
	stat    folderState // of threads

	name     [16]byte
	priority [8]byte // struct sched_param
	paths    [2][64]byte
	pid      int
}

// folderState is struct statx, include/uapi/linux/stat.h.
type folderState struct {
	_     [16]byte
	links uint32
	_     [236]byte
}

const (
	keeperBegins   = 1
	keeperPatience = 2000 // pauses: how long other threads may take to end
)

// keepers are known by the number of their thread.
var keepers sync.Map

// keepThread makes the process by a call of clone(2) or clone3(2).
//
//go:noescape
func keepThread(k *keeper, nr, arg0, arg1 uintptr) (pid uintptr)

// KeepThread makes the calling thread end only after the wills that it will have made by then, should this process be killed. The goroutine is locked to the thread; stop takes
// it back, when these wills are closed. A thread that is traced already is not kept.
func KeepThread() (stop func(), err error) {
	muteStops()
	// Not on the heap: it must stay where it is when nobody but the child knows of it.
	memory, err := unix.Mmap(-1, 0, int(unsafe.Sizeof(keeper{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("keeper: mmap: %w", err)
	}
	k := (*keeper)(unsafe.Pointer(&memory[0]))
	k.prepare(unix.Gettid(), os.Getpid())
	if err := k.start(); err != nil {
		return nil, errors.Join(err, unix.Munmap(memory))
	}
	keepers.Store(int(k.tid), k)
	return func() {
		keepers.Delete(int(k.tid))
		_ = killTable(k.pid) // it may have ended, which lets go of the thread as well
		unix.Munmap(memory)
	}, nil
}

func (k *keeper) prepare(tid, pid int) {
	const links = 2 // of a folder without others; the kernel adds one for each thread: proc_task_getattr in fs/proc/base.c
	address := func(p []byte, s string) uintptr { copy(p, s); return uintptr(unsafe.Pointer(&p[0])) }
	k.tid, k.seized = uintptr(tid), keeperBegins
	k.threads = address(k.paths[0][:], fmt.Sprintf("/proc/%d/task", pid))
	program, alone := "", links+1
	if tid != pid {
		// A first thread that has ended counts until all others have. It has no program then.
		program, alone = fmt.Sprintf("/proc/%d/task/%d/exe", pid, pid), links+2
	}
	k.program, k.alone = address(k.paths[1][:], program), uintptr(alone)
	k.pause = unix.Timespec{Nsec: int64(time.Millisecond)}
	copy(k.name[:], "last-will")
	k.priority[0] = 1
}

// start makes the process and waits until it traces the thread.
func (k *keeper) start() error {
	var err error
	k.pid, err = cloneApart(unix.CLONE_VM|unix.CLONE_FILES, func(nr, arg0, arg1 uintptr) uintptr { return keepThread(k, nr, arg0, arg1) })
	if err != nil {
		return fmt.Errorf("keeper: clone: %w", err)
	}
	if err := awaitChild(k.pid, func() bool { return atomic.LoadUintptr(&k.seized) != keeperBegins }); err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	if e := unix.Errno(-int(k.seized)); e != 0 {
		_ = killTable(k.pid)
		return fmt.Errorf("keeper: PTRACE_SEIZE of thread %d: %w", k.tid, e)
	}
	return nil
}

// remember puts a table into the list.
func (k *keeper) remember(table *willTable) {
	table.next.Store(k.wills.Load())
	k.wills.Store(table)
}

// forget takes it out.
func (k *keeper) forget(table *willTable) {
	at := &k.wills
	for at.Load() != table {
		at = &at.Load().next
	}
	at.Store(table.next.Load())
}

// childAction is what this process does on SIGCHLD: struct sigaction of the kernel, include/linux/signal_types.h. It must not be on a stack, which can move.
var childAction struct{ handler, flags, restorer, mask uintptr }

// muteStops lets the kernel no longer signal each stop of a tracee, once for all: the keeper would have to pass each of them on, and nobody here waits for them.
var muteStops = sync.OnceFunc(func() {
	const noStops = 1 // SA_NOCLDSTOP, include/uapi/asm-generic/signal-defs.h
	action := uintptr(unsafe.Pointer(&childAction))
	call := func(set, get uintptr) unix.Errno {
		_, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGCHLD), set, get, unsafe.Sizeof(childAction.mask), 0, 0)
		return e
	}
	if call(0, action) == 0 {
		childAction.flags |= noStops
		call(action, 0)
	}
})
