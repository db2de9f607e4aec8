package checkpoint

import (
	"context"
	"errors"
	"fmt"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/memory"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/tracee"
)

// ForkReport is what a forked checkpoint did.
type ForkReport struct {
	Bytes int64 `json:"bytes"` // copied after the application ran again
	// InFreeze are the processes that could not be forked: their memory was copied in the freeze.
	InFreeze []NotForked `json:"in_freeze,omitempty"`
}

// NotForked is a process whose memory was copied in the freeze.
type NotForked struct {
	PID int    `json:"pid"`
	Why string `json:"why"`
}

// checkFork finds options that do not go together.
func (o *Options) checkFork() error {
	switch {
	case o.Fork && !o.LeaveRunning:
		return errors.New("a forked checkpoint is of an application that runs on: one that is ended has nothing to gain from being let go early")
	case o.Fork && o.Precopy != nil:
		return errors.New("a checkpoint copies memory before the freeze (pre-copy) or after it (fork), not both: what pre-copy leaves is copied faster than a process forks")
	}
	return nil
}

// fork lets every process make a copy of its memory, from which DumpHeld reads.
func (s *Session) fork() error {
	s.report.Fork = &ForkReport{}
	s.holders, s.memory.Holders = map[int]*tracee.Holder{}, map[int]int{}
	adopts := map[int]bool{} // by process ID: orphans below it come to a process of the application
	return s.eachLive(func(p *image.Process) error {
		adopts[p.PID] = p.Subreaper || adopts[p.PPID]
		why, err := unforkable(p, adopts[p.PID])
		if err != nil {
			return err
		}
		if why != "" {
			s.report.Fork.InFreeze = append(s.report.Fork.InFreeze, NotForked{p.PID, why})
			return nil
		}
		h, err := s.injections[p.PID].Fork()
		if err != nil {
			return err
		}
		s.holders[p.PID], s.memory.Holders[p.PID] = h, h.PID()
		return nil
	})
}

// unforkable says why a fork would not go unnoticed by the application, or nothing.
func unforkable(p *image.Process, adopted bool) (string, error) {
	if adopted {
		return "it or a process above it adopts orphans (PR_SET_CHILD_SUBREAPER), and would adopt the copy", nil
	}
	own, err := procfs.ForksIntoOwnPIDs(p.PID)
	if err != nil {
		return "", err
	}
	if !own {
		return "its children are in another PID namespace than itself", nil
	}
	return "", nil
}

// DumpHeld copies the memory that the application had when it was frozen, while it runs on. Without Options.Fork there is nothing left to do.
func (s *Session) DumpHeld(ctx context.Context) error {
	if s.report.Fork == nil {
		return nil
	}
	return s.timed("forked pages", func() error { return s.dumpHeld(ctx) })
}

func (s *Session) dumpHeld(ctx context.Context) error {
	total := int64(0)
	err := s.eachHeld(func(p *image.Process, _ *tracee.Holder) error {
		err := s.memory.FindHeld(p)
		total += s.memory.Left(p)
		return err
	})
	if err != nil {
		return err
	}
	s.report.Fork.Bytes = total
	moved := memory.CountMoved(ctx, func(n int64) { s.options.Progress("forked pages", n, total) })
	return s.eachHeld(func(p *image.Process, h *tracee.Holder) error {
		err := s.memory.DumpHeld(p, moved)
		if err == nil && s.options.Paranoid {
			err = s.memory.CompareHeld(p)
		}
		if err != nil {
			return fmt.Errorf("pid %d (%s): %w", p.PID, p.Comm, err)
		}
		h.Release()
		delete(s.holders, p.PID)
		return nil
	})
}

// eachHeld calls do for each process whose memory a holder keeps.
func (s *Session) eachHeld(do func(*image.Process, *tracee.Holder) error) error {
	return s.eachLive(func(p *image.Process) error {
		if h := s.holders[p.PID]; h != nil {
			return do(p, h)
		}
		return nil
	})
}

// releaseHolders gives up the copies that were not read.
func (s *Session) releaseHolders() {
	for _, h := range s.holders {
		h.Release()
	}
	s.holders = nil
}
