package pageserver

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// everything is all of an address space.
var everything = image.Extent{End: 1 << 63}

const (
	// settleTime is how long a process that changes its mappings is given to go on after its message was read, ns.
	settleTime = 20_000
	// scarcity is how long to wait before a page is asked for again when there was no memory for one, ns; and patience, how often that is
	// tried.
	scarcity = 1_000_000
	patience = 30_000
)

// family is the space of a restored process and those of its children since.
type family struct {
	spaces  []*space // parents before children
	gate    int      // a pipe: once it is hung up, the background fill may begin
	open    bool     // that has happened
	threads int      // that share the background fill while all is calm
	calm    bool     // nobody has called since the last fill began: threads that are stopped at once cost more than they bring

	fills int // so many so far

	outlook *outlook       // of the server; nil: all may be brought in at once
	source  *foam.File     // with outlook: of all spaces
	lowest  *atomic.Uint64 // with outlook: the physical address below which nothing is read any more
	risen   func()         // is called when lowest has changed

	messages [64]kernel.UffdMessage
	scarce   int // how often in a row there was no memory
}

// run brings everything in. The calling goroutine gets a thread of its own.
func (f *family) run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for len(f.spaces) > 0 {
		if err := f.round(); err != nil {
			return err
		}
	}
	if f.outlook != nil {
		return f.rise(math.MaxUint64)
	}
	return nil
}

// round reads what the kernel has to tell, serves those who wait, and if nobody does, fills.
func (f *family) round() error {
	if !f.open {
		if err := f.wait(); err != nil {
			return err
		}
	}
	idle := true
	for i := 0; i < len(f.spaces); i++ { // children join while we go
		heard, err := f.listen(f.spaces[i])
		if err != nil {
			return err
		}
		idle = idle && !heard && len(f.spaces[i].changes) == 0
	}
	f.assign()
	for _, s := range slices.Clone(f.spaces) {
		if len(s.changes) > 0 {
			continue
		}
		idle = idle && len(s.waiting) == 0
		if err := f.absorb(s, s.serveAll()); err != nil {
			return err
		}
	}
	f.calm = f.calm && idle
	switch {
	case !f.open:
		return nil
	case f.outlook != nil:
		return f.drain() // whoever waits may do so for the memory that is given back then
	case idle:
		return f.fill()
	}
	return nil
}

// wait waits for messages or for the gate.
func (f *family) wait() error {
	fds := []kernel.PollFD{{Fd: int32(f.gate)}}
	for _, s := range f.spaces {
		fds = append(fds, kernel.PollFD{Fd: int32(s.uffd), Events: kernel.PollIn})
		if len(s.waiting) > 0 || len(s.changes) > 0 {
			return nil
		}
	}
	if err := kernel.Poll(fds); err != nil {
		return fmt.Errorf("wait for page faults: %w", err)
	}
	f.open = fds[0].Revents != 0
	return nil
}

// listen reads all messages of a space, and makes its changes as soon as it holds still.
func (f *family) listen(s *space) (heard bool, err error) {
	for {
		n, err := kernel.UffdRead(s.uffd, f.messages[:])
		if errors.Is(err, kernel.EAGAIN) {
			break
		}
		if err != nil {
			return heard, fmt.Errorf("read a userfaultfd: %w", err)
		}
		heard = true
		for i := range f.messages[:n] {
			s.digest(&f.messages[i])
		}
	}
	if len(s.changes) == 0 {
		return heard, nil
	}
	if kernel.UffdChanging(s.uffd) {
		kernel.Pause(settleTime)
		return heard, nil
	}
	f.spaces = append(f.spaces, s.settle()...)
	return heard, nil
}

// assign decides whose page frames may be bound, which is possible only once: those of a space that is alone, as soon as the process runs. Until then its restore may
// fail, and be tried again.
func (f *family) assign() {
	for _, s := range f.spaces {
		s.owner = s.binder != nil && s.pid != 0 && f.open && len(f.spaces) == 1
	}
}

// called tells whether the kernel has something to tell, without hearing it.
func (f *family) called() bool {
	return slices.ContainsFunc(f.spaces, func(s *space) bool {
		events, err := kernel.PollNow(s.uffd, kernel.PollIn)
		return err == nil && events&kernel.PollIn != 0
	})
}

// turn chooses who is filled next. Parents come first: many a child does not live so long. But what children lack can only be copied, and once they have it page frames
// can be bound again: then parents only get so much that they get on, however many children there are.
func (f *family) turn() *space {
	const others = 4
	if f.fills++; f.spaces[0].binder == nil || f.fills%others == 0 {
		return f.spaces[0]
	}
	return f.spaces[len(f.spaces)-1]
}

// fill brings in some of one space.
func (f *family) fill() error {
	s := f.turn()
	if len(s.missing) == 0 {
		return f.leave(s)
	}
	threads := 1
	if f.calm {
		threads = f.threads
	}
	f.calm = true
	return f.absorb(s, s.fill(threads, s.next(), f.called))
}

// absorb deals with what may happen to a space.
func (f *family) absorb(s *space, err error) error {
	if !errors.Is(err, errNoMemory) {
		f.scarce = 0
	}
	switch {
	case errors.Is(err, errChanging):
		kernel.Pause(settleTime)
		return nil
	case errors.Is(err, errEnded):
		return f.leave(s)
	case errors.Is(err, errNoMemory) && f.scarce < patience:
		f.scarce++
		kernel.Pause(scarcity)
		return nil
	}
	return err
}

// leave lets go of a space. Whoever still waits there finds out for himself; children stay.
func (f *family) leave(s *space) error {
	f.spaces = append(f.spaces, s.settle()...)
	f.spaces = slices.DeleteFunc(f.spaces, func(other *space) bool { return other == s })
	s.remove(everything)
	return kernel.Close(s.uffd)
}
