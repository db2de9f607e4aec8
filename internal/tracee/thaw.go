package tracee

import (
	"errors"
	"fmt"
	"time"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
)

// Thaw closes the open injections and lets every thread run on as if nothing had happened; stopped processes stay stopped. It goes on
// after an error, so that as much as possible runs.
func (f *Frozen) Thaw() error {
	defer f.tracer.Relax()
	var errs []error
	for _, p := range f.Processes {
		for _, t := range p.Tasks {
			if !t.Exited {
				errs = append(errs, t.ready())
			}
		}
		errs = append(errs, p.requeue())
	}
	crashPoint("ready to run")
	for _, p := range f.Processes {
		for _, t := range p.Tasks {
			if !t.Exited {
				errs = append(errs, t.detach())
				crashPoint("detached")
			}
		}
		p.close()
	}
	return errors.Join(errs...)
}

// ready puts a thread back to where it was frozen.
func (t *Task) ready() error {
	if t.injection != nil {
		if err := t.injection.Close(); err != nil {
			return err
		}
	}
	if t.moved {
		if err := kernel.PtraceSetRegs(t.TID, &t.Regs); err != nil && !errors.Is(err, kernel.ESRCH) {
			return fmt.Errorf("%v: put back its registers: %w", t, err)
		}
	}
	return nil
}

// requeue sends again what was held back. The threads are still traced, so nothing happens before they run.
func (p *Process) requeue() error {
	var errs []error
	for _, t := range p.Tasks {
		for sig := kernel.Signal(1); sig <= kernel.Signals; sig++ {
			if t.held&signalBit(sig) != 0 {
				errs = append(errs, kernel.TgKill(t.PID, t.TID, sig))
			}
		}
		t.held = 0
	}
	if p.held {
		p.held = false
		errs = append(errs, kernel.Kill(p.PID, kernel.SIGSTOP))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%v: send again a signal that came while it was frozen: %w", p, err)
	}
	return nil
}

func (p *Process) close() {
	if p.mem != nil {
		p.mem.Close()
		p.mem = nil
	}
}

const (
	// killTimeout bounds how long Kill waits: giving back memory takes about 50 ms per GB.
	killTimeout = 60 * time.Second
	// reapGrace is how long somebody else may take to reap a zombie that is not ours.
	reapGrace = 500 * time.Millisecond
)

// Kill ends all processes. Not one instruction of theirs is executed any more, so that clean-ups of open injections are not either. It returns when
// they are gone, or zombies of a living parent that is not kup.
func (f *Frozen) Kill() error {
	defer f.tracer.Relax()
	var errs []error
	for _, p := range f.Processes {
		if err := kernel.Kill(p.PID, kernel.SIGKILL); err != nil && !errors.Is(err, kernel.ESRCH) {
			errs = append(errs, fmt.Errorf("%v: kill: %w", p, err))
		}
	}
	deadline := time.Now().Add(killTimeout)
	for _, p := range f.Processes {
		p.close()
		// The leader's end is reported only after that of its threads.
		for n := len(p.Tasks) - 1; n >= 0; n-- {
			if !p.Tasks[n].Exited {
				errs = append(errs, p.Tasks[n].reap(deadline))
			}
		}
	}
	grace := time.Now().Add(reapGrace)
	for _, p := range f.Processes {
		errs = append(errs, p.gone(grace, deadline))
	}
	return errors.Join(errs...)
}

// reap takes a killed thread's end from the kernel, which the tracer has to.
func (t *Task) reap(deadline time.Time) error {
	for pause := 20 * time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		got, status, err := kernel.Wait(t.TID, true)
		if errors.Is(err, kernel.ECHILD) || got != 0 && (status.Exited() || status.Signaled()) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%v: wait for its end: %w", t, err)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%v was killed but has not ended after %v", t, killTimeout)
		}
		if got == 0 {
			time.Sleep(pause)
		}
	}
}

// gone waits until the process does not exist any more, or is a zombie that only somebody else can reap.
func (p *Process) gone(grace, deadline time.Time) error {
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		kernel.Wait(p.PID, true) // it may be our child, or have become so
		st, err := procfs.ReadStat(p.PID)
		if procfs.Gone(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if st.State == 'Z' && time.Now().After(grace) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%v was killed but has not ended after %v", p, killTimeout)
		}
		time.Sleep(pause)
	}
}
