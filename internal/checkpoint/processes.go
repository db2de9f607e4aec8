package checkpoint

import (
	"encoding/binary"
	"errors"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/memory"
	"github.com/kup-project/kup/internal/parallel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
	"github.com/kup-project/kup/internal/task"
	"github.com/kup-project/kup/internal/tracee"
)

func (s *Session) captureProcesses() error {
	if err := s.captureHost(); err != nil {
		return err
	}
	for _, p := range s.frozen.Processes {
		out, err := task.Identity(p)
		if err != nil {
			return err
		}
		if !p.Zombie {
			if p.Tasks[0].Exited {
				return task.RefuseLeaderless(p.PID, p.Comm)
			}
			out.Threads = make([]image.Thread, len(p.Tasks))
		}
		s.report.Threads += len(out.Threads)
		s.state.Processes = append(s.state.Processes, out)
	}
	s.report.Processes = len(s.state.Processes)
	if err := s.captureThreads(); err != nil {
		return err
	}
	// Before injections are opened that stay: there may be room for a single one.
	for i, p := range s.frozen.Processes {
		if p.Zombie {
			continue
		}
		if err := askThreads(p.Tasks[1:], s.state.Processes[i].Threads[1:]); err != nil {
			return err
		}
	}
	if err := s.captureLeaders(); err != nil {
		return err
	}
	return s.oneClock()
}

// captureThreads describes all threads but for what only they can tell.
func (s *Session) captureThreads() error {
	type thread struct {
		task *tracee.Task
		out  *image.Thread
	}
	var all []thread
	for i, p := range s.frozen.Processes {
		for n, t := range p.Tasks {
			all = append(all, thread{t, &s.state.Processes[i].Threads[n]})
		}
	}
	for _, t := range all {
		if err := task.Thread(t.task, t.out); err != nil {
			return err
		}
		s.state.Host.XCR0 = enabledFeatures(t.out.XState)
	}
	return parallel.Urgently(all, func(t thread) error { return task.ThreadFromOutside(t.task.PID, t.task.TID, t.out) })
}

// enabledFeatures reads XCR0 out of the software-reserved bytes of an XSTATE regset (arch/x86/include/asm/user.h,
// USER_XSTATE_XCR0_WORD).
func enabledFeatures(xstate []byte) uint64 {
	const xcr0 = 464
	if len(xstate) < xcr0+8 {
		return 0
	}
	return binary.LittleEndian.Uint64(xstate[xcr0:])
}

// captureLeaders describes all processes, and asks their first threads, into which it opens the injections that stay.
func (s *Session) captureLeaders() error {
	var leaders []*tracee.Task
	rooms := map[*tracee.Task]int{}
	for _, p := range s.frozen.Processes {
		if p.Zombie {
			continue
		}
		room, err := leaderRoom(p.PID)
		if err != nil {
			return err
		}
		leaders = append(leaders, p.Tasks[0])
		rooms[p.Tasks[0]] = room
	}
	opened, err := tracee.InjectAll(leaders, func(t *tracee.Task) int { return rooms[t] })
	if err != nil {
		return err
	}
	for _, in := range opened {
		s.injections[in.PID()] = in
	}
	var batches []*tracee.Batch
	var answers []func() error
	for i, p := range s.frozen.Processes {
		if p.Zombie {
			continue
		}
		out := &s.state.Processes[i]
		b := tracee.NewBatch(s.injections[p.PID])
		process, err := task.Ask(p, b, out)
		if err != nil {
			return err
		}
		thread := task.AskThread(b, &out.Threads[0])
		batches, answers = append(batches, b), append(answers, process, thread)
	}
	return hear(batches, answers)
}

// askThreads asks threads of one process what only they can tell.
func askThreads(tasks []*tracee.Task, out []image.Thread) error {
	told, err := tracee.AskAll(tasks)
	if err != nil {
		return err
	}
	for i, self := range told {
		if self != nil {
			task.Told(self, &out[i])
			continue
		}
		if err := askAgain(tasks[i], &out[i]); err != nil {
			return err
		}
	}
	return nil
}

// askAgain asks a thread that could not tell everything, which ends with a sentence about what is the matter, as a rule.
func askAgain(t *tracee.Task, out *image.Thread) error {
	in, err := t.Inject(threadArea)
	if err != nil {
		return err
	}
	b := tracee.NewBatch(in)
	answer := task.AskThread(b, out)
	return errors.Join(hear([]*tracee.Batch{b}, []func() error{answer}), in.Close())
}

// hear lets tasks execute what they are asked, all at the same time, and takes their answers.
func hear(batches []*tracee.Batch, answers []func() error) error {
	if err := tracee.RunAll(batches); err != nil {
		return err
	}
	for _, answer := range answers {
		if err := answer(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) captureHost() (err error) {
	h := &s.state.Host
	if h.Boot, err = procfs.BootID(); err != nil {
		return err
	}
	if h.Kernel, err = procfs.KernelRelease(); err != nil {
		return err
	}
	now, err := kernel.Clocks()
	if err != nil {
		return err
	}
	h.Realtime, h.Monotonic, h.Boottime = now.Realtime, now.Monotonic, now.Boottime
	h.VDSO, err = memory.HostVDSO()
	return err
}

// oneClock refuses applications whose processes live in different times.
func (s *Session) oneClock() error {
	var first *image.Process
	for i := range s.state.Processes {
		p := &s.state.Processes[i]
		if p.State == image.Zombie {
			continue
		}
		if first == nil {
			first = p
		}
		if p.TimeOffset != first.TimeOffset {
			return refuse.Errorf("pid %d (%s) and pid %d (%s) are in time namespaces with different clocks, which cannot be checkpointed", first.PID, first.Comm, p.PID, p.Comm)
		}
	}
	return nil
}
