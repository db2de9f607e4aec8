package kernel

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked says that another process holds a lock.
var ErrLocked = errors.New("locked by another process")

// LockFile takes an exclusive flock(2) lock, which lasts until the last descriptor of the open file is closed. Without wait it
// returns ErrLocked if another process has it.
func LockFile(f *os.File, wait bool) error {
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	for {
		err := unix.Flock(int(f.Fd()), how)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EWOULDBLOCK):
			return ErrLocked
		case !errors.Is(err, unix.EINTR):
			return &os.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
	}
}

// CloseOnExecFrom keeps descriptors from first upwards out of programs that this process starts (close_range(2), since
// v5.11; one by one before that).
func CloseOnExecFrom(first uint) error {
	err := unix.CloseRange(first, ^uint(0)>>32, unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		return nil
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, entry := range open {
		var fd uint
		for _, digit := range entry.Name() {
			fd = fd*10 + uint(digit-'0')
		}
		if fd >= first {
			unix.CloseOnExec(int(fd)) // the descriptor of the directory itself is closed by now
		}
	}
	return nil
}

// EndFirst lets the kernel end this process before any other when memory runs out, until the returned function is called; see proc_pid_oom_score_adj(5). Children inherit
// that. A Will ends with its process then: the kernel ends all that share its memory (mm/oom_kill.c, __oom_kill_process).
func EndFirst() (asBefore func() error, err error) {
	const path = "/proc/self/oom_score_adj"
	before, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return func() error { return os.WriteFile(path, before, 0) }, os.WriteFile(path, []byte("1000"), 0)
}

// ForwardedSignals are the signals by which people and service managers end or reload a program. Whoever stands in front of
// one passes them on.
var ForwardedSignals = []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT}

// TerminatingSignals ask kup itself to give up.
var TerminatingSignals = []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP}

// ExitCode is what a shell says of an ended process: its exit code, or 128 and the number of the signal that killed it.
func ExitCode(status WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
