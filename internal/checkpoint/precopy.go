package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/memory"
	"github.com/kup-project/kup/internal/report"
)

// PrecopyOptions bounds the rounds of copying that come before the freeze.
type PrecopyOptions struct {
	Rounds  int            // at most so many; 0 for DefaultRounds
	MaxTime time.Duration  // begin no round after so long; 0 for DefaultMaxTime
	Backend memory.Backend // how written pages are found; empty for the best that works
}

// Bounds of pre-copy unless told otherwise.
const (
	DefaultRounds  = 10
	DefaultMaxTime = time.Minute
)

// PrecopyReport is what the rounds before the freeze did.
type PrecopyReport struct {
	Backend memory.Backend `json:"backend"`
	Rounds  []Round        `json:"rounds"`
	Ended   string         `json:"ended"` // why there was no further round
	Left    int64          `json:"left"`  // bytes that the freeze had to copy
}

// Round is one round of pre-copy.
type Round struct {
	Bytes  int64           `json:"bytes"` // found written, and copied
	Pages  int64           `json:"pages"`
	Time   report.Duration `json:"ms"`
	Frozen report.Duration `json:"frozen_ms"` // that the application stood still for it
	PerSec int64           `json:"per_sec"`   // bytes written per second by the application, since the round before
}

// converged is what may be left for the freeze without another round being worth it: it is copied in about a millisecond.
const converged = 4 << 20

// Precopy copies the application's memory while it runs, round by round, so that the freeze only copies what was written since.
func (s *Session) Precopy(ctx context.Context, o PrecopyOptions) error {
	return s.timed("pre-copy", func() error {
		if o.Rounds == 0 {
			o.Rounds = DefaultRounds
		}
		if o.MaxTime == 0 {
			o.MaxTime = DefaultMaxTime
		}
		var err error
		if o.Backend, err = memory.ChooseBackend(o.Backend); err != nil {
			return err
		}
		s.report.Precopy = &PrecopyReport{Backend: o.Backend}
		if err := s.watch(ctx, o.Backend); err != nil {
			return err
		}
		return s.rounds(ctx, o)
	})
}

// watch stops the application for a moment to begin watching its memory.
func (s *Session) watch(ctx context.Context, backend memory.Backend) (err error) {
	frozen, err := s.tracer.Freeze(ctx, []int{s.options.Root})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, frozen.Thaw()) }()
	for _, p := range frozen.Processes {
		if p.Zombie {
			continue
		}
		in, err := p.Tasks[0].Inject(threadArea)
		if err != nil {
			return err
		}
		err = s.memory.StartPrecopy(backend, in)
		if err := errors.Join(err, in.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) rounds(ctx context.Context, o PrecopyOptions) error {
	r := s.report.Precopy
	began := time.Now()
	last := began
	for n := 1; ; n++ {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		begin := time.Now()
		round, err := s.round(ctx, fmt.Sprintf("pre-copy, round %d", n))
		if err != nil {
			return err
		}
		if n > 1 {
			round.PerSec = int64(float64(round.Bytes) / max(begin.Sub(last), time.Millisecond).Seconds())
		}
		last = begin
		r.Rounds = append(r.Rounds, round)
		if r.Ended = ended(r.Rounds, o, time.Since(began)); r.Ended != "" {
			return nil
		}
	}
}

// ended says why there should be no further round, or nothing.
func ended(rounds []Round, o PrecopyOptions, took time.Duration) string {
	last := rounds[len(rounds)-1]
	switch {
	case last.Bytes <= converged:
		return "converged"
	case len(rounds) > 2 && last.Bytes > rounds[len(rounds)-2].Bytes*9/10:
		return "the application writes as fast as kup copies"
	case len(rounds) >= o.Rounds:
		return "the limit of rounds was reached"
	case took >= o.MaxTime:
		return "the time limit was reached"
	}
	return ""
}

// round finds what was written in all processes, and copies it.
func (s *Session) round(ctx context.Context, name string) (Round, error) {
	s.options.Progress(name, 0, 0)
	begin := time.Now()
	var out Round
	found, err := s.find(ctx, &out)
	if err != nil {
		return out, err
	}
	var total int64
	for _, pages := range found {
		total += int64(foam.Extents(pages).Total())
	}
	moved := memory.CountMoved(ctx, func(n int64) { s.options.Progress(name, n, total) })
	for pid, pages := range found {
		n, err := s.memory.Precopies[pid].Copy(pages, moved)
		if err != nil {
			return out, fmt.Errorf("pre-copy of pid %d: %w", pid, err)
		}
		out.Bytes += n
		if err := s.memory.Precopies[pid].Flush(); err != nil {
			return out, fmt.Errorf("pre-copy of pid %d: %w", pid, err)
		}
	}
	out.Pages = out.Bytes / kernel.PageSize
	out.Time = report.Duration(time.Since(begin))
	return out, nil
}

// find asks all trackers, with the application frozen if they need that. If not, it is frozen only if there are new mappings to be watched.
func (s *Session) find(ctx context.Context, out *Round) (found map[int][]image.Extent, err error) {
	found = map[int][]image.Extent{}
	ask := func() error {
		for pid, p := range s.memory.Precopies {
			if found[pid], err = p.Find(); err != nil {
				return fmt.Errorf("pre-copy of pid %d: %w", pid, err)
			}
		}
		return nil
	}
	unwatched := false
	for pid, p := range s.memory.Precopies {
		if p.FrozenOnly() {
			return found, s.stopped(ctx, out, ask)
		}
		some, err := p.Unwatched()
		if err != nil {
			return nil, fmt.Errorf("pre-copy of pid %d: %w", pid, err)
		}
		unwatched = unwatched || some
	}
	if unwatched {
		if err := s.stopped(ctx, out, s.watchNew); err != nil {
			return nil, err
		}
	}
	return found, ask()
}

func (s *Session) watchNew() error {
	for pid, p := range s.memory.Precopies {
		if err := p.Watch(); err != nil {
			return fmt.Errorf("pre-copy of pid %d: %w", pid, err)
		}
	}
	return nil
}

// stopped does something while the application is frozen.
func (s *Session) stopped(ctx context.Context, out *Round, do func() error) error {
	begin := time.Now()
	frozen, err := s.tracer.Freeze(ctx, []int{s.options.Root})
	if err != nil {
		return err
	}
	err = do()
	err = errors.Join(err, frozen.Thaw())
	out.Frozen = report.Duration(time.Since(begin))
	return err
}
