package pageserver

import (
	"math"
	"sort"
	"sync/atomic"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// ahead is what a space needs of a block of physical memory, the lowest that it needs anything of. It is found anew when all of that is there.
type ahead struct {
	block uint64         // address
	pages []image.Extent // by address; only a hint, missing or not
}

// findAhead finds out what comes next in a space that is filled block by block.
func (s *space) findAhead(block uint64) {
	if s.skipAhead(); len(s.ahead.pages) == 0 {
		s.ahead.block, s.ahead.pages = s.missing.lowest(s.source.Windows(), block)
	}
}

// skipAhead drops the first pages ahead that are not missing any more.
func (s *space) skipAhead() {
	for len(s.ahead.pages) > 0 && !s.missing.touches(s.ahead.pages[0]) {
		s.ahead.pages = s.ahead.pages[1:]
	}
}

// nextAhead returns the first stretches of what is missing ahead, so many at most.
func (s *space) nextAhead(most int) (list []stretch) {
	for i := 0; i < len(s.ahead.pages) && len(list) <= most; i++ {
		list = s.missing.appendStretches(list, s.ahead.pages[i])
	}
	return list[:min(len(list), most)]
}

// lowest returns the lowest block of physical memory, of a size in bytes, that has contents of missing pages, and these pages. The contents are where windows say, by address;
// no window goes across blocks.
func (m pieces) lowest(windows []image.Window, size uint64) (block uint64, pages []image.Extent) {
	block = math.MaxUint64
	i := 0
	for _, p := range m {
		for p.size() > 0 {
			if i = windowOf(windows, i, p.from); i == len(windows) {
				break // it cannot be read, as whoever brings it in will find out
			}
			w := windows[i]
			part := p.within(image.Extent{Start: p.Start, End: p.Start + (w.End - p.from)})
			at := w.Offset + (p.from - w.Start)
			switch at -= at % size; {
			case at < block:
				block, pages = at, append(pages[:0], part.Extent)
			case at == block:
				pages = append(pages, part.Extent)
			}
			p = p.within(image.Extent{Start: part.End, End: p.End})
		}
	}
	return block, pages
}

// windowOf returns the index of the window with an address, len(windows) if there is none. What is not in the window with an index of before is mostly in the next
// one: to look everywhere takes ten times as long.
func windowOf(windows []image.Window, before int, address uint64) int {
	for i := before; i < min(before+2, len(windows)); i++ {
		if windows[i].Start <= address && address < windows[i].End {
			return i
		}
	}
	i := sort.Search(len(windows), func(i int) bool { return windows[i].End > address })
	if i < len(windows) && windows[i].Start > address {
		return len(windows)
	}
	return i
}

// beyond tells whether a piece is read from where nothing may be read in the background yet.
func (s *space) beyond(p piece) bool {
	if s.outlook == nil {
		return false
	}
	windows := s.source.Windows()
	i := windowOf(windows, 0, p.from)
	return i < len(windows) && !s.outlook.reaches(windows[i].Offset+(p.from-windows[i].Start))
}

// drain is fill for a family whose memory comes from blocks that are given back to the kernel once nobody needs them: the lowest is read first, for all spaces.
func (f *family) drain() error {
	var next *space
	for _, s := range f.spaces {
		switch {
		case len(s.changes) > 0:
			return nil // it is not known yet what is missing
		case len(s.missing) == 0 && len(s.waiting) == 0:
			return f.leave(s)
		}
		if s.findAhead(f.outlook.block); next == nil || s.ahead.block < next.ahead.block {
			next = s
		}
	}
	if err := f.rise(next.ahead.block); err != nil {
		return err
	}
	if !f.outlook.reaches(next.ahead.block) {
		return f.linger()
	}
	threads, most := 1, 1
	if f.calm {
		threads, most = f.threads, atOnce-1
	}
	f.calm = true
	var begun atomic.Bool // whoever waits for pages that must wait for memory waits for this
	called := func() bool { return begun.Swap(true) && f.called() }
	return f.absorb(next, next.fill(threads, next.nextAhead(most), called))
}

// rise tells everybody that nothing below an address is read any more.
func (f *family) rise(to uint64) error {
	if to <= f.lowest.Load() {
		return nil
	}
	// Who has the memory then must not find it mapped.
	if err := f.source.Release(to); err != nil {
		return err
	}
	f.lowest.Store(to)
	f.risen()
	return nil
}

// linger waits for messages, or for the horizon to be moved.
func (f *family) linger() error {
	const patience = 5 // ms
	var fds []kernel.PollFD
	for _, s := range f.spaces {
		fds = append(fds, kernel.PollFD{Fd: int32(s.uffd), Events: kernel.PollIn})
	}
	return kernel.PollFor(fds, patience)
}
