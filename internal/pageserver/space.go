package pageserver

import (
	"errors"
	"fmt"
	"sync"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/parallel"
)

const (
	pageSize = kernel.PageSize

	// around is how much is brought in with a page that was touched, bytes, aligned.
	around = 64 << 10
	// chunk is how much is copied before anybody looks for faults again, bytes: about as long as two faults take.
	chunk = 256 << 10
)

var (
	// errChanging: the kernel has news of the address space that must be read first.
	errChanging = errors.New("the address space is being changed")
	// errCalled: somebody may have something to tell.
	errCalled = errors.New("there may be messages")
	// errEnded: nobody uses the address space any more.
	errEnded = errors.New("the process has ended")
	// errScarce: there is no memory for the page before some was given back.
	errScarce = errors.New("memory is scarce")
)

// space is one address space with missing pages.
type space struct {
	pid     int // 0 for a child that was forked
	uffd    int
	source  *foam.File
	missing pieces
	watched pieces             // all that was registered, wherever it is now; not known of a child
	hot     []pieces           // what to bring in before the rest, the hottest first; only a hint, missing or not
	outlook *outlook           // of the server; nil: it is filled in the order of hot, and then of addresses
	ahead   ahead              // with outlook
	settled func(bytes uint64) // is told how much less is missing
	changes []change           // read, and not made in missing and watched
	waiting []fault
	doubt   bool   // mappings were moved: what is missing may be there
	zeros   []byte // one page

	binder *frames.Binder // nil if contents can only be copied
	owner  bool           // nobody else lacks what is missing here, now or, if this fails, later: its page frames may be bound
}

// fault is somebody who waits for a page.
type fault struct {
	page  uint64
	write bool
}

// digest notes what the kernel has told, for later.
func (s *space) digest(m *kernel.UffdMessage) {
	if m.Event == kernel.UffdEventPagefault {
		s.waiting = append(s.waiting, fault{m.Args[1] &^ (pageSize - 1), m.Args[0]&kernel.UffdPagefaultWrite != 0})
		return
	}
	s.changes = append(s.changes, newChange(m))
}

func (s *space) remove(e image.Extent) { s.settled(s.missing.remove(e)) }

// serveAll serves those who wait. Who cannot be served before more messages are read, or there is memory for it, goes on waiting.
func (s *space) serveAll() error {
	var left []fault
	for i, f := range s.waiting {
		switch err := s.serve(f); {
		case errors.Is(err, errScarce):
			left = append(left, f)
		case err != nil:
			s.waiting = append(left, s.waiting[i:]...)
			return err
		}
	}
	s.waiting = left
	return nil
}

// serve brings a page in, and then what is missing around it.
func (s *space) serve(f fault) error {
	page := image.Extent{Start: f.page, End: f.page + pageSize}
	stored := s.missing.within(page)
	if len(stored) == 0 {
		return s.zero(f)
	}
	beyond := s.beyond(stored[0])
	if beyond && s.outlook.scarce() {
		return errScarce
	}
	if err := s.put(stretch(stored)); err != nil || beyond {
		return err
	}
	if s.binder != nil && !s.owner {
		return nil // what is not copied can be bound later
	}
	begin := f.page &^ (around - 1)
	err := s.put(stretch(s.missing.within(image.Extent{Start: begin, End: begin + around})))
	if errors.Is(err, errChanging) {
		return nil // what is around can wait
	}
	return err
}

// zero brings in a page that was never stored.
func (s *space) zero(f fault) error {
	var err error
	if f.write {
		_, err = kernel.UffdCopy(s.uffd, f.page, s.zeros)
	} else {
		_, err = kernel.UffdZero(s.uffd, f.page, pageSize)
	}
	switch {
	case errors.Is(err, kernel.EEXIST), errors.Is(err, kernel.ENOENT):
		return kernel.UffdWake(s.uffd, f.page, pageSize)
	default:
		return s.explain(err, image.Extent{Start: f.page, End: f.page + pageSize})
	}
}

// fill brings in stretches of what is missing, by address, on some threads, until somebody calls. Messages are not read meanwhile: while its news are unread, the
// kernel keeps us from copying to where a mapping was.
func (s *space) fill(threads int, list []stretch, called func() bool) error {
	ends := make([]uint64, len(list))
	var numbers []int
	for i := range list {
		numbers = append(numbers, i)
	}
	err := parallel.Few(threads, numbers, func(i int) (err error) {
		ends[i], err = s.bring(list[i], called)
		return err
	})
	var brought []image.Extent
	for i, run := range list {
		brought = append(brought, run.before(ends[i])...)
	}
	s.settled(s.missing.removeAll(brought))
	if errors.Is(err, errCalled) {
		return nil
	}
	return err
}

// bring brings in a stretch, and returns up to where it got. Like supply, it changes nothing in the space.
func (s *space) bring(run stretch, called func() bool) (end uint64, err error) {
	end = run[0].Start
	unasked := uint64(0) // bytes that may be brought in before anybody looks for calls
	pieces := 1
	if s.owner {
		pieces = len(run) // all in one call
	}
	for len(run) > 0 {
		var head stretch
		head, run = run.cut(pieces, chunk)
		if unasked < head.size() {
			if called() {
				return end, errCalled
			}
			unasked = chunk
		}
		unasked -= head.size()
		if end, err = s.supply(head); err != nil {
			return end, err
		}
	}
	return end, nil
}

const (
	// region is what one thread fills at a time, bytes, aligned: what has a page table of its own, and with it a lock.
	region = 2 << 20
	// atOnce is how many stretches fill brings in before it decides anew what comes next.
	atOnce = 8
)

// next returns the stretches of missing pages to bring in now: the hottest, and when all that is hot is there, the lowest.
func (s *space) next() (list []stretch) {
	for ; len(s.hot) > 0; s.hot = s.hot[1:] {
		for ; len(s.hot[0]) > 0; s.hot[0] = s.hot[0][1:] {
			if list = s.missing.appendStretches(nil, s.hot[0][0].Extent); len(list) > 0 {
				break
			}
		}
		for i := 1; i < len(s.hot[0]) && len(list) < atOnce; i++ {
			list = s.missing.appendStretches(list, s.hot[0][i].Extent)
		}
		if len(list) > 0 {
			return list
		}
	}
	return s.missing.appendStretches(nil, everything)
}

// put brings in missing pages: all that are missing between the first and the last of them, a chunk at most.
func (s *space) put(run stretch) error {
	if len(run) == 0 {
		return nil
	}
	end, err := s.supply(run)
	s.remove(image.Extent{Start: run[0].Start, End: end})
	return err
}

// supply brings in missing pages, a chunk at most, and returns up to where they are not missing any more. It changes nothing in the space: several may do so at
// once, with pieces that have no page in common.
func (s *space) supply(run stretch) (end uint64, err error) {
	if s.owner {
		return s.bind(run)
	}
	end = run[0].Start
	for _, p := range run {
		done, err := s.copy(p)
		if done > 0 {
			end = p.Start + done
		}
		if err != nil {
			return end, err
		}
	}
	return end, nil
}

// copy copies the contents of missing pages to where they belong, and returns how many bytes are not missing any more.
func (s *space) copy(p piece) (done uint64, err error) {
	buf := contents.Get().(*[chunk]byte)
	defer contents.Put(buf)
	pages := buf[:p.size()]
	if err := s.source.ReadAt(pages, p.from); err != nil {
		return 0, fmt.Errorf("read pages %#x-%#x: %w", p.from, p.from+p.size(), err)
	}
	step := p.size()
	for done < p.size() {
		at, size := p.Start+done, min(step, p.size()-done)
		n, err := kernel.UffdCopy(s.uffd, at, pages[done:done+size])
		switch {
		case n > 0 || err == nil:
		case errors.Is(err, kernel.ENOENT) && size > pageSize:
			step = pageSize // it goes across the border of two mappings, or part of it is gone
		default:
			if err := s.forgo(at, err); err != nil {
				return done, err
			}
			n = pageSize
		}
		done += n
	}
	return done, nil
}

// forgo gives up a page that the kernel does not take, if that is not missing after all; else the error is the kernel's.
func (s *space) forgo(page uint64, err error) error {
	switch {
	case errors.Is(err, kernel.ENOENT) && kernel.UffdChanging(s.uffd):
		// It may have been moved away just now. Since v6.9 the kernel looks for the mapping before it looks for news.
		return errChanging
	case errors.Is(err, kernel.EEXIST) && !s.doubt:
		return fmt.Errorf("the missing page %#x is there, and not from us: what it held at the checkpoint would be lost", page)
	case errors.Is(err, kernel.ENOENT), errors.Is(err, kernel.EEXIST):
		return kernel.UffdWake(s.uffd, page, pageSize)
	}
	return s.explain(err, image.Extent{Start: page, End: page + pageSize})
}

// contents are buffers for pages on their way. They stay in the processor's cache.
var contents = sync.Pool{New: func() any { return new([chunk]byte) }}

// explain tells the kernel's errors that are part of life from those that are not.
func (s *space) explain(err error, e image.Extent) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kernel.EAGAIN):
		return errChanging
	case errors.Is(err, kernel.ENOMEM):
		return errNoMemory
	case errors.Is(err, kernel.ESRCH):
		return errEnded
	}
	return fmt.Errorf("bring in pages %#x-%#x: %w", e.Start, e.End, err)
}

// errNoMemory: the machine or the process's memory cgroup is full; that may pass.
var errNoMemory = fmt.Errorf("no memory for a page: %w", kernel.ENOMEM)
