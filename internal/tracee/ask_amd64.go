package tracee

import (
	"github.com/kup-project/kup/internal/kernel"
)

// Self is what only a thread itself can tell of itself.
type Self struct {
	ClearTID    uint64 // where the kernel writes 0 at its end, PR_GET_TID_ADDRESS
	DeathSignal int    // PR_GET_PDEATHSIG
	TSC         int    // PR_GET_TSC
	StackAddr   uint64 // of the alternate signal stack, sigaltstack(2)
	StackFlags  int32
	StackSize   uint64
	SecureBits  uint32 // PR_GET_SECUREBITS
	TimerSlack  uint64 // ns, PR_GET_TIMERSLACK
	MCEKill     int    // PR_MCE_KILL_GET
	Personality uint32
}

// answers reads the registers at the stop behind the questions of testdata/blob.S.
func answers(r *kernel.Regs) (Self, bool) {
	securebits, mce := int32(r.Rbp), int32(r.Rbp>>32)
	return Self{
		ClearTID:    r.R8,
		DeathSignal: int(int32(r.Rdx)), TSC: int(int32(r.Rdx >> 32)),
		StackAddr: r.R13, StackFlags: int32(r.R9), StackSize: r.R12,
		SecureBits: uint32(securebits), TimerSlack: r.Rbx, MCEKill: int(mce), Personality: uint32(r.R10),
	}, securebits >= 0 && mce >= 0
}
