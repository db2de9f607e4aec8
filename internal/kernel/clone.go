package kernel

import "golang.org/x/sys/unix"

// Flags of clone3(2), include/uapi/linux/sched.h.
const (
	CloneVM      = unix.CLONE_VM
	CloneFS      = unix.CLONE_FS
	CloneFiles   = unix.CLONE_FILES
	CloneSighand = unix.CLONE_SIGHAND
	ClonePtrace  = unix.CLONE_PTRACE
	CloneParent  = unix.CLONE_PARENT
	CloneThread  = unix.CLONE_THREAD
	CloneSysVSem = unix.CLONE_SYSVSEM
	CloneNewTime = unix.CLONE_NEWTIME

	// CloneAsThread is what pthread_create(3) shares.
	CloneAsThread = CloneVM | CloneFS | CloneFiles | CloneSighand | CloneThread | CloneSysVSem
)

// Arguments of waitid(2), include/uapi/linux/wait.h.
const (
	WaitPID    = unix.P_PID
	WaitExited = unix.WEXITED
	WaitAll    = unix.WALL // also for children that end without a signal
)

// Signals that are handled by name, see signal(7).
const (
	SIGKILL  = unix.SIGKILL
	SIGQUIT  = unix.SIGQUIT // a Go program prints what it is doing, and ends
	SIGSTOP  = unix.SIGSTOP
	SIGCONT  = unix.SIGCONT
	SIGCHLD  = unix.SIGCHLD
	SIGTRAP  = unix.SIGTRAP
	SIGSEGV  = unix.SIGSEGV
	SIGBUS   = unix.SIGBUS
	SIGFPE   = unix.SIGFPE
	SIGILL   = unix.SIGILL
	SIGALRM  = unix.SIGALRM
	SIGURG   = unix.SIGURG
	SIGWINCH = unix.SIGWINCH
)
