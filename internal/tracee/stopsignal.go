package tracee

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
)

// stopSignal chooses the signal by which the blob stops its thread: one that the process ignores, so that nothing happens when no tracer
// is there, and none of which is pending already, because that one would be lost.
//
// SIGCONT comes last: sending it takes pending stop signals back, and continues a stopped process. But programs in Go handle all
// others.
func (t *Task) stopSignal() (kernel.Signal, error) {
	p := t.process
	if err := p.dispositions(); err != nil {
		return 0, err
	}
	free := p.ignore &^ signalBit(kernel.SIGCONT)
	// One that the thread does not block is best: another of them that arrives meanwhile would be ignored anyway.
	if sig, ok := choose(free &^ t.SigMask); ok {
		return sig, nil
	}
	pending, err := t.pending()
	if err != nil {
		return 0, err
	}
	if sig, ok := choose(free &^ pending); ok {
		return sig, nil
	}
	if p.ignore&signalBit(kernel.SIGCONT) == 0 || p.Stopped || pending&signalBit(kernel.SIGCONT) != 0 {
		return 0, p.refuseSignals()
	}
	p.held = p.held || pending&stopSignals != 0
	return kernel.SIGCONT, nil
}

func choose(set uint64) (kernel.Signal, bool) {
	for _, sig := range []kernel.Signal{kernel.SIGWINCH, kernel.SIGURG, kernel.SIGCHLD} {
		if set&signalBit(sig) != 0 {
			return sig, true
		}
	}
	return kernel.Signal(bits.Len64(set)), set != 0
}

const stopSignals = 1<<(kernel.SIGSTOP-1) | 1<<(kernel.SIGTSTP-1) | 1<<(kernel.SIGTTIN-1) | 1<<(kernel.SIGTTOU-1)

func (p *Process) refuseSignals() error {
	if p.Stopped {
		return refuse.Errorf("%v is stopped by a signal and ignores none that kup could use in its place (programs in Go handle all); continue it (kill -CONT %d)", p, p.PID)
	}
	return refuse.Errorf("%v ignores no signal that kup could use to stop it for its own purposes: it handles SIGWINCH, SIGURG, SIGCHLD and SIGCONT, or they are "+
		"pending; let it ignore any one, for instance SIGPWR", p)
}

// dispositions reads once which signals the process handles and ignores.
func (p *Process) dispositions() error {
	if p.ignore != 0 {
		return nil
	}
	status, err := procfs.ReadStatus(p.member().TID)
	if err != nil {
		return fmt.Errorf("%v: %w", p, err)
	}
	byDefault := signalBit(kernel.SIGCHLD) | signalBit(kernel.SIGCONT) | signalBit(kernel.SIGURG) | signalBit(kernel.SIGWINCH)
	p.caught = status.SigCaught
	p.ignore = status.SigIgnored | byDefault&^status.SigCaught
	return nil
}

// pending returns the signals that wait for the thread, in its own and in its process's queue.
func (t *Task) pending() (set uint64, err error) {
	for _, shared := range []bool{false, true} {
		infos, err := kernel.PtracePeekSigInfo(t.TID, shared)
		if err != nil {
			return 0, fmt.Errorf("%v: pending signals: %w", t, err)
		}
		for _, info := range infos {
			set |= signalBit(kernel.Signal(binary.LittleEndian.Uint32(info)))
		}
	}
	return set, nil
}
