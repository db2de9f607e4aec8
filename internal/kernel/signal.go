package kernel

import "golang.org/x/sys/unix"

// Stop signals and others that freezing handles by name, see signal(7).
const (
	SIGTSTP = unix.SIGTSTP
	SIGTTIN = unix.SIGTTIN
	SIGTTOU = unix.SIGTTOU
)

// Signals is the number of signals, _NSIG of arch/x86/include/asm/signal.h.
const Signals = 64

// TgKill sends a signal to one thread, see tgkill(2).
func TgKill(pid, tid int, sig Signal) error { return unix.Tgkill(pid, tid, sig) }

// Gettid returns the thread ID of the calling thread: a goroutine's own only while it is locked to its thread.
func Gettid() int { return unix.Gettid() }
