package tracee

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
)

// await waits until tasks that were asked to stop have done so. Those that end instead are forgotten.
func (f *Frozen) await(ctx context.Context, tasks []*Task) error {
	asked := time.Now()
	pending := append([]*Task(nil), tasks...)
	for pause := 10 * time.Microsecond; ; pause = min(2*pause, time.Millisecond) {
		left := pending[:0]
		for _, t := range pending {
			err := t.poll()
			switch {
			case errors.Is(err, errGone):
				delete(f.tasks, t.TID)
			case err != nil:
				return err
			case !t.stopped:
				left = append(left, t)
			}
		}
		if pending = left; len(pending) == 0 {
			return nil
		}
		if time.Since(asked) > patience {
			if err := stuck(ctx, pending[0]); err != nil {
				return err
			}
		}
		time.Sleep(pause)
	}
}

// poll takes a stop of the task if there is one.
func (t *Task) poll() error {
	got, status, err := kernel.Wait(t.TID, true)
	switch {
	case errors.Is(err, kernel.ECHILD):
		// Another thread of its process called execve(2) and has ended it, or taken its number.
		return errGone
	case err != nil:
		return fmt.Errorf("%v: wait: %w", t, err)
	case got == 0:
		return nil
	case status.Exited() || status.Signaled():
		return errGone
	}
	sig, event := status.StopSignal(), int(status)>>16
	if event == kernel.PtraceEventStop {
		t.stopped = true
		if stops(sig) {
			t.process.Stopped, t.process.StopSignal = true, int(sig)
		}
		return nil
	}
	// A signal was about to be delivered: let it be, and stop right behind it. This stop has used up the request to stop.
	if err := kernel.PtraceInterrupt(t.TID); err != nil {
		return t.lost("interrupt", err)
	}
	if err := kernel.PtraceCont(t.TID, sig); err != nil {
		return t.lost("deliver a signal to", err)
	}
	return nil
}

// lost explains the error, if it is one, of a request to a task.
func (t *Task) lost(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kernel.ESRCH):
		return errGone
	}
	return fmt.Errorf("%v: %s: %w", t, what, err)
}

// stops reports whether a signal's default action is to stop the process.
func stops(sig kernel.Signal) bool {
	return sig == kernel.SIGSTOP || sig == kernel.SIGTSTP || sig == kernel.SIGTTIN || sig == kernel.SIGTTOU
}

// stuck says why a task does not stop, if it should not be waited for any longer.
func stuck(ctx context.Context, t *Task) error {
	call, err := procfs.ReadSyscall(t.TID)
	if err == nil {
		switch call.Number {
		case kernel.SysVfork, kernel.SysClone, kernel.SysClone3:
			// A vfork parent sleeps uninterruptibly until its child, which may be stopped by now, calls execve(2) or exits.
			return fmt.Errorf("%v waits for a child it made by vfork(2) to start its program: %w", t, errRetry)
		}
	}
	switch ctx.Err() {
	case nil:
		return nil
	case context.Canceled:
		return context.Cause(ctx)
	}
	if st, err := procfs.ReadStat(t.TID); err == nil && st.State == 'R' {
		return fmt.Errorf("%v: thread %d does not stop: it has not got a processor in time, because others are busy on all of them (%w); try again when the load is lower, "+
			"or put it before others with renice", t.process, t.TID, ctx.Err())
	}
	wchan, err := procfs.ReadWchan(t.TID)
	if err != nil {
		wchan = "unknown"
	}
	return fmt.Errorf("%v: thread %d does not stop: it sleeps in the kernel in %s and cannot be interrupted (%w); wait until the device or "+
		"file system it uses answers, then try again", t.process, t.TID, wchan, ctx.Err())
}

// release lets every seized task run on as if it had not been stopped. A task that cannot be stopped cannot be detached either: the
// kernel does it when the tracer's thread ends.
func (f *Frozen) release() error {
	defer f.tracer.Relax()
	var errs []error
	var running []*Task
	for _, t := range f.tasks {
		if t.stopped {
			errs = append(errs, t.detach())
		} else {
			running = append(running, t)
		}
	}
	// Those that others kept from stopping, like the parents of vfork(2), can stop now.
	deadline := time.Now().Add(time.Second)
	for _, t := range running {
		var err error
		for err == nil && !t.stopped && time.Now().Before(deadline) {
			if err = t.poll(); err == nil && !t.stopped {
				time.Sleep(100 * time.Microsecond)
			}
		}
		if t.stopped {
			errs = append(errs, t.detach())
		} else if err == nil {
			f.tracer.stragglers = true
		}
	}
	return errors.Join(errs...)
}

// detach lets a stopped task run on. It is no error if it has been killed.
func (t *Task) detach() error {
	if err := kernel.PtraceDetach(t.TID, 0); err != nil && !errors.Is(err, kernel.ESRCH) {
		return fmt.Errorf("%v: let it run on: %w", t, err)
	}
	return nil
}
