package pageserver

import (
	"errors"
	"fmt"
	"sort"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

const (
	pageSize = kernel.PageSize

	// around is how much is brought in with a page that was touched, bytes, aligned.
	around = 64 << 10
	// chunk is how much the background fill copies before it looks for faults again, bytes: about as long as two faults take.
	chunk = 256 << 10
	// trim is after how many copied bytes a source gives its page tables back. Otherwise all of the FOAM would count as the server's
	// memory.
	trim = 64 << 20
)

var (
	// errChanging: the kernel has news of the address space that must be read first.
	errChanging = errors.New("the address space is being changed")
	// errEnded: nobody uses the address space any more.
	errEnded = errors.New("the process has ended")
)

// source is the FOAM of a space, mapped.
type source struct {
	file    *foam.File
	windows [][]byte // as file.Windows()
	copied  uint64   // since the last trim
}

func openSource(path string, layout image.FOAM) (*source, error) {
	file, err := foam.Open(path, layout)
	if err != nil {
		return nil, err
	}
	s := &source{file: file}
	for _, w := range file.Windows() {
		mem, err := file.Map(image.Extent{Start: w.Start, End: w.End})
		if err != nil {
			return nil, err
		}
		s.windows = append(s.windows, mem)
	}
	return s, nil
}

// bytes returns the stored contents of e, which lies in one window.
func (s *source) bytes(e image.Extent) ([]byte, error) {
	windows := s.file.Windows()
	i := sort.Search(len(windows), func(i int) bool { return windows[i].End > e.Start })
	if i < len(windows) && windows[i].Start <= e.Start && e.End <= windows[i].End {
		return s.windows[i][e.Start-windows[i].Start : e.End-windows[i].Start], nil
	}
	return nil, fmt.Errorf("addresses %#x-%#x: %w", e.Start, e.End, foam.ErrOutside)
}

// used notes that bytes were copied out of the mapping.
func (s *source) used(bytes uint64) error {
	if s.copied += bytes; s.copied < trim || s.file.InFrames() {
		return nil
	}
	s.copied = 0
	for _, mem := range s.windows {
		if err := kernel.Forget(mem); err != nil {
			return err
		}
	}
	return nil
}

// space is one address space with missing pages.
type space struct {
	pid     int // 0 for a child that was forked
	uffd    int
	source  *source
	missing pieces
	watched pieces             // all that was registered, wherever it is now; not known of a child
	hot     []pieces           // what to bring in before the rest, the hottest first; only a hint, missing or not
	settled func(bytes uint64) // is told how much less is missing
	changes []change           // read, and not made in missing and watched
	waiting []fault
	doubt   bool   // mappings were moved: what is missing may be there
	zeros   []byte // one page
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

// serveAll serves those who wait. Who cannot be served before more messages are read goes on waiting.
func (s *space) serveAll() error {
	for len(s.waiting) > 0 {
		if err := s.serve(s.waiting[0]); err != nil {
			return err
		}
		s.waiting = s.waiting[1:]
	}
	return nil
}

// serve brings a page in, and then what is missing around it.
func (s *space) serve(f fault) error {
	page := image.Extent{Start: f.page, End: f.page + pageSize}
	stored := s.missing.within(page)
	if len(stored) == 0 {
		return s.zero(f)
	}
	if err := s.put(stored[0]); err != nil {
		return err
	}
	begin := f.page &^ (around - 1)
	for _, p := range s.missing.within(image.Extent{Start: begin, End: begin + around}) {
		if err := s.put(p); err != nil && !errors.Is(err, errChanging) {
			return err // but what is around can wait
		}
	}
	return nil
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

// fill brings in the next chunk of what is missing.
func (s *space) fill() error {
	next := s.next()
	return s.put(next.within(image.Extent{Start: next.Start, End: next.Start&^(chunk-1) + chunk}))
}

// next is the run of missing pages to bring in now: the hottest, and when all that is hot is there, the lowest.
func (s *space) next() piece {
	for len(s.hot) > 0 {
		if len(s.hot[0]) == 0 {
			s.hot = s.hot[1:]
			continue
		}
		hot := s.hot[0][0].Extent
		if first, last := s.missing.find(hot); first < last {
			return s.missing[first].within(hot)
		}
		s.hot[0] = s.hot[0][1:]
	}
	return s.missing[0]
}

// put brings in missing pages.
func (s *space) put(p piece) error {
	contents, err := s.source.bytes(image.Extent{Start: p.from, End: p.from + p.size()})
	if err != nil {
		return err
	}
	if len(contents) >= around {
		// An error will show again, for the page that it belongs to.
		_ = kernel.PopulateRead(contents)
	}
	step := p.size()
	for at := p.Start; at < p.End; {
		size := min(step, p.End-at)
		done, err := kernel.UffdCopy(s.uffd, at, contents[at-p.Start:][:size])
		switch {
		case done > 0 || err == nil:
		case errors.Is(err, kernel.ENOENT) && kernel.UffdChanging(s.uffd):
			// It may have been moved away just now. Since v6.9 the kernel looks for the mapping before it looks for news.
			return errChanging
		case errors.Is(err, kernel.ENOENT) && size > pageSize:
			step = pageSize // it goes across the border of two mappings, or part of it is gone
			continue
		case errors.Is(err, kernel.EEXIST) && !s.doubt:
			return fmt.Errorf("the missing page %#x is there, and not from us: what it held at the checkpoint would be lost", at)
		case errors.Is(err, kernel.ENOENT), errors.Is(err, kernel.EEXIST):
			done = pageSize
			if err := kernel.UffdWake(s.uffd, at, pageSize); err != nil {
				return err
			}
		default:
			return s.explain(err, image.Extent{Start: at, End: at + size})
		}
		s.remove(image.Extent{Start: at, End: at + done})
		if err := s.source.used(done); err != nil {
			return err
		}
		at += done
	}
	return nil
}

// explain tells the errors of UFFDIO_COPY that are part of life from those that are not.
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
