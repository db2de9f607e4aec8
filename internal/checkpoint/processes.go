package checkpoint

import (
	"encoding/binary"
	"errors"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/memory"
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
	if err := s.captureLeaders(); err != nil {
		return err
	}
	for i, p := range s.frozen.Processes {
		if !p.Zombie {
			if err := captureThreads(p.Tasks[1:], s.state.Processes[i].Threads[1:]); err != nil {
				return err
			}
		}
	}
	return s.oneClock()
}

// captureLeaders describes all processes and their first threads, into which it opens the injections that stay.
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
		thread, err := task.AskThread(p.Tasks[0], b, &out.Threads[0])
		if err != nil {
			return err
		}
		batches, answers = append(batches, b), append(answers, process, thread)
		s.state.Host.XCR0 = enabledFeatures(out.Threads[0].XState)
	}
	return hear(batches, answers)
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

// captureThreads describes threads of one process, as many at a time as it has room for.
func captureThreads(tasks []*tracee.Task, out []image.Thread) error {
	for len(tasks) > 0 {
		room, err := tasks[0].Process().Room()
		if err != nil {
			return err
		}
		n := min(len(tasks), max(room, 1))
		if err := captureGroup(tasks[:n], out[:n]); err != nil {
			return err
		}
		tasks, out = tasks[n:], out[n:]
	}
	return nil
}

func captureGroup(tasks []*tracee.Task, out []image.Thread) (err error) {
	opened, err := tracee.InjectAll(tasks, func(*tracee.Task) int { return threadArea })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tracee.CloseAll(opened)) }()
	batches := make([]*tracee.Batch, len(tasks))
	answers := make([]func() error, len(tasks))
	for i, t := range tasks {
		batches[i] = tracee.NewBatch(opened[i])
		if answers[i], err = task.AskThread(t, batches[i], &out[i]); err != nil {
			return err
		}
	}
	return hear(batches, answers)
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
