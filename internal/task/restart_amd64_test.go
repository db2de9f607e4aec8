package task

import (
	"testing"

	"github.com/kup-project/kup/internal/kernel"
)

func TestRestartBlockBecomesTheOriginalCall(t *testing.T) {
	block := int64(restartBlock)
	regs := func(orig uint64) kernel.Regs {
		return kernel.Regs{Orig_rax: orig, Rax: uint64(block), Rdi: 0x1000, Rsi: 0x2000, Rdx: 0x3000, R10: 0x4000}
	}
	small := func(r kernel.Regs) kernel.Regs { r.Rdi = 1; return r }
	for _, c := range []struct {
		name string
		in   kernel.Regs
		hint string
		nr   uint64
		rax  int64
		rdi  uint64
		rdx  uint64
	}{
		{"nanosleep asks for the rest", regs(kernel.SysNanosleep), "", kernel.SysNanosleep, restartNoHand, 0x2000, 0x3000},
		{"clock_nanosleep asks for the rest", regs(kernel.SysClockNanosleep), "", kernel.SysClockNanosleep, restartNoHand, 0x1000, 0x4000},
		{"poll begins anew", regs(kernel.SysPoll), "", kernel.SysPoll, restartNoHand, 0x1000, 0x3000},
		{"a restarted futex is told by where it sleeps", regs(kernel.SysRestartSyscall), "futex_wait_queue", kernel.SysFutex, restartNoHand, 0x1000, 0x3000},
		{"a restarted poll likewise", regs(kernel.SysRestartSyscall), "poll_schedule_timeout", kernel.SysPoll, restartNoHand, 0x1000, 0x3000},
		{"a restarted nanosleep by its address", regs(kernel.SysRestartSyscall), "hrtimer_nanosleep", kernel.SysNanosleep, restartNoHand, 0x2000, 0x3000},
		{"a restarted clock_nanosleep by its clock", small(regs(kernel.SysRestartSyscall)), "do_nanosleep", kernel.SysClockNanosleep, restartNoHand, 1, 0x4000},
		{"an unknown call is interrupted", regs(kernel.SysRestartSyscall), "", ^uint64(0), eintr, 0x1000, 0x3000},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := c.in
			restartable(&r, c.hint)
			if r.Orig_rax != c.nr || int64(r.Rax) != c.rax || r.Rdi != c.rdi || r.Rdx != c.rdx {
				t.Errorf("orig_rax %d, rax %d, rdi %#x, rdx %#x; want %d, %d, %#x, %#x", int64(r.Orig_rax), int64(r.Rax), r.Rdi, r.Rdx, int64(c.nr), c.rax, c.rdi, c.rdx)
			}
		})
	}
}

func TestOtherRegistersAreLeftAlone(t *testing.T) {
	interrupted := int64(-512)
	for name, r := range map[string]kernel.Regs{
		"outside of a call":  {Orig_rax: ^uint64(0), Rax: 7},
		"interrupted read":   {Orig_rax: kernel.SysRead, Rax: uint64(interrupted), Rdi: 3},
		"finished nanosleep": {Orig_rax: kernel.SysNanosleep, Rax: 0, Rdi: 1, Rsi: 2},
	} {
		before := r
		restartable(&r, "do_nanosleep")
		if r != before {
			t.Errorf("%s: registers were changed", name)
		}
	}
}
