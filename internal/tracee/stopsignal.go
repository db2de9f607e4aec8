package tracee

import (
	"encoding/binary"
	"fmt"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
)

// stopSignal chooses the signal by which the blob stops its thread: one that the process ignores, so that nothing happens when no tracer
// is there, and none of which is pending already, because that one would be lost.
func (t *Task) stopSignal() (kernel.Signal, error) {
	if err := t.process.dispositions(); err != nil {
		return 0, err
	}
	pending, err := t.pending()
	if err != nil {
		return 0, err
	}
	usable := t.process.ignore &^ signalBit(kernel.SIGCONT)
	// One that the thread does not block is best: another of them that arrives meanwhile would be ignored.
	for _, set := range []uint64{usable &^ t.SigMask, usable &^ pending} {
		for _, sig := range []kernel.Signal{kernel.SIGWINCH, kernel.SIGURG, kernel.SIGCHLD} {
			if set&signalBit(sig) != 0 {
				return sig, nil
			}
		}
		for sig := kernel.Signal(kernel.Signals); sig > 0; sig-- {
			if set&signalBit(sig) != 0 {
				return sig, nil
			}
		}
	}
	return 0, refuse.Errorf("%v ignores no signal that kup could use to stop it (it handles SIGWINCH, SIGURG and SIGCHLD, or they are pending); "+
		"let it ignore one, for instance SIGPWR", t)
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
