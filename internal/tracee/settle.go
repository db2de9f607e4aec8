package tracee

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
)

// settle reads the registers of all stopped threads, brings them to where they can be left, and checks what only a stopped thread
// can tell.
func (f *Frozen) settle(ctx context.Context, hints map[int]string, infos []ProcessInfo) error {
	checked := map[int]bool{}
	for i := range infos {
		checked[infos[i].PID] = true
	}
	own, err := procfs.ReadNamespaces(os.Getpid())
	if err != nil {
		return err
	}
	for _, p := range f.Processes {
		if p.Zombie {
			continue
		}
		if !checked[p.PID] {
			// It is younger than the check. It is traced by now, by us.
			info := ProcessInfo{PID: p.PID, PPID: p.PPID, Comm: p.Comm}
			if err := errors.Join(checkNamespaces(&info, own), checkExe(&info)); err != nil {
				return err
			}
		}
		err := p.settle(ctx, hints)
		if errors.Is(err, errGone) || procfs.Gone(err) {
			return fmt.Errorf("%v changed while it was being stopped: %w", p, errRetry)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *Process) settle(ctx context.Context, hints map[int]string) error {
	t := p.member()
	if t == nil {
		return errGone
	}
	var err error
	if p.Maps, err = procfs.ReadMaps(t.TID); err != nil {
		return err
	}
	p.vdso.find(p.Maps)
	for _, t := range p.Tasks {
		if t.Exited {
			continue
		}
		if err := t.settle(ctx); err != nil {
			return err
		}
		if int64(t.Regs.Rax) == restartBlock && t.Regs.Orig_rax == kernel.SysRestartSyscall {
			t.RestartHint = hints[t.TID]
		}
	}
	return nil
}

// maxStrolls is how often a thread is let run a little to leave the vdso. One that calls it in a loop is outside about every other
// time.
const (
	maxStrolls = 100
	strollTime = 20 * time.Microsecond
)

func (t *Task) settle(ctx context.Context) error {
	for range maxStrolls {
		if err := t.read(); err != nil {
			return err
		}
		t.InVDSO = t.process.vdso.contains(t.Regs.Rip)
		if !t.InVDSO {
			break
		}
		inBlob, err := t.inBlob()
		if err != nil {
			return err
		}
		if t.process.Stopped && !inBlob {
			break
		}
		if err := t.stroll(ctx); err != nil {
			return err
		}
	}
	if t.InVDSO {
		if inBlob, err := t.inBlob(); err != nil || inBlob {
			return errors.Join(err, fmt.Errorf("%v still executes what an earlier kup, which has died, put into it: %w", t, errRetry))
		}
	}
	if t.Regs.Cs == userCode32 {
		return refuse32(t)
	}
	if dispatched, err := kernel.PtraceDispatches(t.TID); err == nil && dispatched {
		return refuse.Errorf("%v has its system calls dispatched to a handler (PR_SET_SYSCALL_USER_DISPATCH, as Wine does), which cannot be checkpointed", t)
	}
	return t.abortSequence()
}

// read fetches what the kernel holds for the thread.
func (t *Task) read() (err error) {
	if t.Regs, err = kernel.PtraceGetRegs(t.TID); err != nil {
		return t.lost("read its registers", err)
	}
	if t.SigMask, err = kernel.PtraceGetSigMask(t.TID); err != nil {
		return t.lost("read its signal mask", err)
	}
	return nil
}

// inBlob reports whether a thread within the vdso is on its way home from an injection of a kup that has died.
func (t *Task) inBlob() (bool, error) {
	image := make([]byte, t.process.vdso.end-t.process.vdso.start)
	if err := kernel.ReadMemory(t.TID, t.process.vdso.start, image); err != nil {
		return false, t.lost("read its [vdso]", err)
	}
	at := bytes.Index(image, marker[:])
	return at >= 0 && t.Regs.Rip >= t.process.vdso.start+uint64(at), nil
}

// stroll lets a thread run a few instructions: out of the vdso, whose code may be another one when the thread goes on, or out of
// a blob on its way home.
func (t *Task) stroll(ctx context.Context) error {
	if err := kernel.PtraceCont(t.TID, 0); err != nil {
		return t.lost("continue", err)
	}
	time.Sleep(strollTime) // asked at once, it would stop before its first instruction
	if err := kernel.PtraceInterrupt(t.TID); err != nil {
		return t.lost("interrupt", err)
	}
	t.stopped = false
	for pause := time.Microsecond; !t.stopped; pause *= 2 {
		if err := t.poll(); err != nil {
			return err
		}
		if t.stopped {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return stuck(ctx, t)
		}
		time.Sleep(min(pause, time.Millisecond))
	}
	return nil
}

// Offsets in struct rseq and struct rseq_cs, include/uapi/linux/rseq.h.
const (
	rseqCS        = 8 // u64 in struct rseq: the address of the current struct rseq_cs, or 0
	rseqCSSize    = 32
	rseqStart     = 8
	rseqLength    = 16
	rseqAbort     = 24
	rseqCSVersion = 0
)

// abortSequence moves a thread that is within a restartable sequence to the sequence's abort handler, as the kernel would before it
// runs again. The kernel will not any more, once it sees other registers: it then takes the sequence for finished (kernel/rseq.c,
// rseq_ip_fixup).
func (t *Task) abortSequence() error {
	config, err := kernel.PtraceGetRseq(t.TID)
	if err != nil {
		return t.lost("read its restartable sequence", err)
	}
	if config.Pointer == 0 {
		return nil
	}
	var word [8]byte
	if err := kernel.ReadMemory(t.TID, config.Pointer+rseqCS, word[:]); err != nil {
		return t.lost("read its restartable sequence", err)
	}
	at := binary.LittleEndian.Uint64(word[:])
	if at == 0 {
		return nil
	}
	var cs [rseqCSSize]byte
	if err := kernel.ReadMemory(t.TID, at, cs[:]); err != nil {
		return t.lost("read its restartable sequence", err)
	}
	start := binary.LittleEndian.Uint64(cs[rseqStart:])
	length := binary.LittleEndian.Uint64(cs[rseqLength:])
	if binary.LittleEndian.Uint32(cs[rseqCSVersion:]) == 0 && t.Regs.Rip-start < length {
		t.Regs.Rip = binary.LittleEndian.Uint64(cs[rseqAbort:])
		t.moved = true
	}
	return nil
}
