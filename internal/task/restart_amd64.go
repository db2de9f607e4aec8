package task

import (
	"strings"

	"github.com/kup-project/kup/internal/kernel"
)

// Results by which the kernel marks a system call that it will restart, include/linux/errno.h.
const (
	restartNoHand = -514 // ERESTARTNOHAND: unless a handler runs
	restartBlock  = -516 // ERESTART_RESTARTBLOCK: by restart_syscall(2)
	eintr         = -4
)

// restartable changes registers that wait for restart_syscall(2), whose arguments are in the kernel and lost with the task
// (task_struct.restart_block), so that the original call is made again. Of a sleep, the kernel has stored the rest of the time
// where the caller asked for it: that becomes the request. A poll(2) or a futex wait begins anew with its whole timeout.
//
// hint is where the thread slept before it was frozen, needed if it had been restarted before.
func restartable(r *kernel.Regs, hint string) {
	if int64(r.Orig_rax) < 0 || int64(r.Rax) != restartBlock {
		return
	}
	again := int64(restartNoHand)
	nr := r.Orig_rax
	if nr == kernel.SysRestartSyscall {
		nr = callBehind(r, hint)
	}
	switch nr {
	case kernel.SysNanosleep:
		if r.Rsi != 0 {
			r.Rdi = r.Rsi
		}
	case kernel.SysClockNanosleep:
		if r.R10 != 0 {
			r.Rdx = r.R10
		}
	case kernel.SysPoll, kernel.SysFutex:
	default:
		again, nr = eintr, ^uint64(0)
	}
	r.Rax, r.Orig_rax = uint64(again), nr
}

// callBehind tells which call a restart_syscall stands for, by the kernel function the thread slept in. Those who restart are
// hrtimer_nanosleep, futex_wait and do_sys_poll.
func callBehind(r *kernel.Regs, hint string) uint64 {
	switch {
	case strings.Contains(hint, "nanosleep"):
		// clock_nanosleep(2) begins with a small clock number, nanosleep(2) with an address.
		if r.Rdi < 64 {
			return kernel.SysClockNanosleep
		}
		return kernel.SysNanosleep
	case strings.Contains(hint, "futex"):
		return kernel.SysFutex
	case strings.Contains(hint, "poll"):
		return kernel.SysPoll
	}
	return ^uint64(0)
}
