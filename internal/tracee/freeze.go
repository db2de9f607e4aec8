package tracee

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
)

const (
	// freezeTimeout bounds a freeze whose context has no deadline.
	freezeTimeout = 10 * time.Second
	// patience is how long a thread may take to stop before it is asked why.
	patience = 20 * time.Millisecond
	// retryPause lets the application run between two attempts.
	retryPause = 5 * time.Millisecond
)

// errRetry says that the application must run on a little before another attempt can succeed.
var errRetry = errors.New("the application must run on for a moment")

// Freeze stops all threads of the process trees under the roots. What cannot be frozen is refused before anything is touched, see
// Check; if freezing fails later, everything runs on. A context without a deadline gets one of ten seconds.
func (t *Tracer) Freeze(ctx context.Context, roots []int) (*Frozen, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, freezeTimeout)
		defer cancel()
	}
	infos, err := Check(roots)
	if err != nil {
		return nil, err
	}
	for {
		f, err := t.attempt(ctx, roots, infos)
		if !errors.Is(err, errRetry) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w; every attempt ended like this, try again when it starts fewer programs", err)
		case <-time.After(retryPause):
		}
	}
}

// attempt freezes once, or leaves everything as it was.
func (t *Tracer) attempt(ctx context.Context, roots []int, infos []ProcessInfo) (*Frozen, error) {
	hints := restartHints(infos)
	f := &Frozen{tasks: map[int]*Task{}, processes: map[int]*Process{}, tracer: t}
	t.Hasten()
	err := f.seizeAll(ctx, roots)
	if err == nil {
		crashPoint("all stopped")
		err = f.settle(ctx, hints, infos)
	}
	if err != nil {
		return nil, errors.Join(err, f.release())
	}
	crashPoint("frozen")
	return f, nil
}

// restartHints notes where the threads sleep that restart_syscall(2) has put to sleep again, while everything runs.
func restartHints(infos []ProcessInfo) map[int]string {
	hints := map[int]string{}
	for i := range infos {
		for _, tid := range infos[i].Threads {
			call, err := procfs.ReadSyscall(tid)
			if err != nil || call.Number != kernel.SysRestartSyscall {
				continue // it has ended, or nothing needs to be known
			}
			if hint, err := procfs.ReadWchan(tid); err == nil {
				hints[tid] = hint
			}
		}
	}
	return hints
}

// seizeAll stops the trees. Threads and children appear while others are being stopped, so it looks again until it finds nothing
// new while everything it knows is stopped.
func (f *Frozen) seizeAll(ctx context.Context, roots []int) error {
	for {
		pids, err := tree(roots)
		if err != nil {
			return err
		}
		f.Processes = f.Processes[:0]
		var fresh []*Task
		for _, pid := range pids {
			p, seized, err := f.seizeProcess(pid)
			fresh = append(fresh, seized...)
			if err != nil {
				return err
			}
			if p != nil {
				f.Processes = append(f.Processes, p)
			}
		}
		if len(fresh) == 0 {
			return nil
		}
		crashPoint("seized")
		if err := f.await(ctx, fresh); err != nil {
			return err
		}
	}
}

// seizeProcess seizes the threads of a process that are not known yet. It returns no process if it is gone.
func (f *Frozen) seizeProcess(pid int) (p *Process, fresh []*Task, err error) {
	st, err := procfs.ReadStat(pid)
	if procfs.Gone(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	tids, err := procfs.Threads(pid)
	if procfs.Gone(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if p = f.processes[pid]; p == nil {
		p = &Process{PID: pid}
		f.processes[pid] = p
	}
	p.PPID, p.Comm, p.Tasks = st.PPID, st.Comm, p.Tasks[:0]
	if i := slices.Index(tids, pid); i > 0 {
		tids = append([]int{pid}, slices.Delete(tids, i, i+1)...) // numbers wrap around
	}
	for _, tid := range tids {
		task := f.tasks[tid]
		if task == nil {
			task = &Task{TID: tid, PID: pid, process: p}
			if f.Since.IsZero() {
				f.Since = time.Now()
			}
			if err := task.seize(); errors.Is(err, errGone) {
				continue
			} else if err != nil {
				return nil, fresh, err
			}
			if !task.Exited {
				f.tasks[tid] = task
				fresh = append(fresh, task)
			}
		}
		p.Tasks = append(p.Tasks, task)
	}
	if len(p.Tasks) == 1 && p.Tasks[0].Exited {
		p.Zombie, p.Tasks = true, nil
	}
	if len(p.Tasks) == 0 && !p.Zombie {
		return nil, fresh, nil
	}
	return p, fresh, nil
}

// errGone says that a task has ended.
var errGone = errors.New("the thread has ended")

// seize attaches to a running thread and asks it to stop.
func (t *Task) seize() error {
	// A thread that calls execve(2) takes its leader's number: what could not be seized a moment ago is then another thread.
	const attempts = 100
	var err error
	for range attempts {
		if err = kernel.PtraceSeize(t.TID, 0); err == nil {
			err = kernel.PtraceInterrupt(t.TID)
		}
		if errors.Is(err, kernel.ESRCH) {
			return errGone
		}
		if !errors.Is(err, kernel.EPERM) {
			return err
		}
		if explained, err := t.explain(); explained || err != nil {
			return err
		}
	}
	return fmt.Errorf("%v: seize: %w; kup needs CAP_SYS_PTRACE and a system that lets it trace (see Yama's ptrace_scope)", t, err)
}

// explain tells why a thread could not be seized: because it has exited, or has a tracer.
func (t *Task) explain() (explained bool, err error) {
	status, err := procfs.ReadStatus(t.TID)
	switch {
	case procfs.Gone(err) || err == nil && status.State == 'X':
		return true, errGone
	case err != nil:
		return true, err
	case status.State == 'Z' && t.TID == t.PID:
		t.Exited = true
		return true, nil
	case status.State == 'Z':
		return true, errGone // the kernel reaps it by itself
	case status.TracerPID == kernel.Gettid():
		// It was seized by the number it had before it called execve(2).
		return true, t.lost("interrupt", kernel.PtraceInterrupt(t.TID))
	case status.TracerPID != 0:
		return true, refuseTraced(&ProcessInfo{PID: t.PID, Comm: t.process.Comm}, t.TID, status.TracerPID)
	}
	return false, nil
}
