package restore

import (
	"fmt"
	"os"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/netlock"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/task"
	"github.com/kup-project/kup/internal/tracee"
)

// buildAll gives each process its memory, its descriptors, and what its threads will share.
func (r *restorer) buildAll() error {
	err := r.live(func(p *image.Process, s *tracee.Seed) error {
		if err := r.memory.AddressSpace(p, s, r.moved); err != nil {
			return err
		}
		if err := r.objects.Install(p, s); err != nil {
			return err
		}
		return task.RebuildProcess(p, s)
	})
	if err != nil {
		return err
	}
	return r.memory.RemoveSegments()
}

// threadsAll makes the threads and brings every one of them to its last state before it runs.
func (r *restorer) threadsAll() error {
	r.threads = map[int][]*tracee.Seed{}
	return r.live(func(p *image.Process, s *tracee.Seed) error {
		tids := make([]int, 0, len(p.Threads))
		for _, t := range p.Threads[1:] {
			tids = append(tids, t.TID)
		}
		others, err := s.CloneThreads(tids, kernel.CloneAsThread)
		r.threads[p.PID] = append([]*tracee.Seed{s}, others...)
		if err != nil {
			return taken(err)
		}
		if err := task.Limits(p, s); err != nil {
			return err
		}
		if err := task.Timers(p, s); err != nil {
			return err
		}
		if err := task.RebuildThreads(p, r.threads[p.PID]); err != nil {
			return err
		}
		if err := task.Last(p, r.threads[p.PID]); err != nil {
			return err
		}
		return task.Queue(p, r.threads[p.PID])
	})
}

// resume takes the scaffolding away and lets all threads run.
func (r *restorer) resume() error {
	err := r.live(func(p *image.Process, s *tracee.Seed) error {
		at, err := r.memory.SyscallAt(p)
		if err != nil {
			return err
		}
		if err := s.DropArea(at); err != nil {
			return err
		}
		for i, seed := range r.threads[p.PID] {
			if err := seed.Finish(task.Final(&p.Threads[i])); err != nil {
				return err
			}
		}
		if p.State == image.Stopped {
			return kernel.Kill(p.PID, kernel.Signal(p.StopSignal))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if r.state.NetLock != "" {
		if err := netlock.Unlock(r.state.NetLock); err != nil {
			return err
		}
		r.locked = false
	}
	if err := r.objects.ReleaseNetwork(); err != nil {
		return err
	}
	return r.release()
}

// release lets every thread go. First none of them may die with kup any more, so that from here on it is all or nothing but for a
// kup that is killed within these lines.
func (r *restorer) release() error {
	for _, seeds := range r.threads {
		for _, s := range seeds {
			if err := s.Survive(); err != nil {
				return err
			}
		}
	}
	for pid, seeds := range r.threads {
		for _, s := range seeds {
			if err := s.Release(); err != nil {
				return fmt.Errorf("let thread %d of pid %d run: %w", s.TID(), pid, err)
			}
		}
	}
	r.tree.seeds = nil
	return nil
}

// enterTime puts the seeds to come into a time namespace in which CLOCK_MONOTONIC and CLOCK_BOOTTIME go on from where they were:
// another boot begins them anew, which would send absolute timeouts astray. As over a suspend, the monotonic clock has stood
// still in between. Within one boot the clocks need no help.
func enterTime(st *image.State, nursery *tracee.Seed) error {
	boot, err := procfs.BootID()
	if err != nil {
		return err
	}
	shift := image.TimeShift{}
	if len(st.Processes) > 0 {
		shift = st.Processes[0].TimeOffset
	}
	if boot != st.Host.Boot {
		now, err := kernel.Clocks()
		if err != nil {
			return err
		}
		away := max(0, now.Realtime-st.Host.Realtime)
		shift.Monotonic += st.Host.Monotonic - now.Monotonic
		shift.Boottime += st.Host.Boottime + away - now.Boottime
	}
	if shift == (image.TimeShift{}) {
		return nil
	}
	if err := call(nursery, "make a time namespace", kernel.SysUnshare, kernel.CloneNewTime); err != nil {
		return err
	}
	text := fmt.Sprintf("monotonic %s\nboottime %s\n", offset(shift.Monotonic), offset(shift.Boottime))
	if err := os.WriteFile(procfs.Path(nursery.PID(), "timens_offsets"), []byte(text), 0); err != nil {
		return fmt.Errorf("set the clocks of the time namespace to %q: %w", text, err)
	}
	return nil
}

// offset writes ns as seconds and nanoseconds, the latter never negative.
func offset(ns int64) string {
	seconds, rest := ns/1e9, ns%1e9
	if rest < 0 {
		seconds, rest = seconds-1, rest+1e9
	}
	return fmt.Sprintf("%d %d", seconds, rest)
}
