package checkpoint

import (
	"encoding/binary"

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
			if err := s.captureLive(p, &out); err != nil {
				return err
			}
			s.report.Threads += len(out.Threads)
		}
		s.state.Processes = append(s.state.Processes, out)
	}
	s.report.Processes = len(s.state.Processes)
	return s.oneClock()
}

func (s *Session) captureLive(p *tracee.Process, out *image.Process) error {
	// Once more, now that nothing can change any more.
	if err := task.Check(p.PID); err != nil {
		return err
	}
	room, err := leaderRoom(p.PID)
	if err != nil {
		return err
	}
	leader, err := p.Tasks[0].Inject(room)
	if err != nil {
		return err
	}
	s.injections[p.PID] = leader
	if err := task.Capture(p, leader, out); err != nil {
		return err
	}
	for i, t := range p.Tasks {
		thread, err := captureThread(t, leader, i == 0)
		if err != nil {
			return err
		}
		out.Threads = append(out.Threads, thread)
	}
	if s.state.Host.XCR0 == 0 {
		s.state.Host.XCR0 = enabledFeatures(out.Threads[0].XState)
	}
	return nil
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

func captureThread(t *tracee.Task, leader *tracee.Injection, leads bool) (image.Thread, error) {
	if leads {
		return task.CaptureThread(t, leader)
	}
	in, err := t.Inject(threadArea)
	if err != nil {
		return image.Thread{}, err
	}
	thread, err := task.CaptureThread(t, in)
	if closed := in.Close(); err == nil {
		err = closed
	}
	return thread, err
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
