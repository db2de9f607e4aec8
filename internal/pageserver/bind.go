package pageserver

import (
	"errors"

	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/kernel"
)

// bind makes the page frames of missing pages those of the process, without a copy, and returns up to where they are not missing any more.
func (s *space) bind(run stretch) (end uint64, err error) {
	var left []frames.Binding
	for _, p := range run {
		left = s.source.AppendBindings(left, p.Start, p.from, p.size())
	}
	start := run[0].Start
	for end = start; len(left) > 0; {
		_, err = s.binder.BindWatched(s.uffd, left)
		var stuck *frames.BindError
		if !errors.As(err, &stuck) {
			break
		}
		end = stuck.Address
		if err = s.forgo(end, notWatched(stuck)); err != nil {
			break
		}
		end, left = end+pageSize, behind(left, stuck)
	}
	if err == nil {
		end = run[len(run)-1].End
	}
	if woken := s.wake(start, end); err == nil {
		err = woken
	}
	return end, err
}

// wake lets those try again who wait for pages in [start, end).
func (s *space) wake(start, end uint64) error {
	if start == end {
		return nil
	}
	return kernel.UffdWake(s.uffd, start, end-start)
}

// notWatched gives the lack of a mapping the number that UFFDIO_COPY has for it.
func notWatched(err *frames.BindError) error {
	if errors.Is(err, kernel.EFAULT) {
		return kernel.ENOENT
	}
	return err
}

// behind returns what of a list comes after the page that could not be bound.
func behind(list []frames.Binding, stuck *frames.BindError) []frames.Binding {
	rest := list[stuck.Binding:]
	done := stuck.Offset + pageSize
	rest[0].Address, rest[0].Start, rest[0].Length = rest[0].Address+done, rest[0].Start+done, rest[0].Length-done
	if rest[0].Length == 0 {
		return rest[1:]
	}
	return rest
}
