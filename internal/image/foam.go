package image

import "fmt"

// Offset returns where the byte at addr lies in the FOAM file, and whether a window covers it.
func (f *FOAM) Offset(addr uint64) (int64, bool) {
	w, ok := f.Window(addr)
	if !ok {
		return 0, false
	}
	return int64(w.Offset + (addr - w.Start)), true
}

// address returns what lies at an offset of the FOAM file, which must be in a window.
func (f *FOAM) address(offset uint64) uint64 {
	for _, w := range f.Windows {
		if w.Offset <= offset && offset-w.Offset < w.End-w.Start {
			return w.Start + (offset - w.Offset)
		}
	}
	panic(fmt.Sprintf("offset %#x of %s is in no window", offset, f.Name))
}

// Window returns the window that addr lies in.
func (f *FOAM) Window(addr uint64) (Window, bool) {
	low, high := 0, len(f.Windows)
	for low < high {
		mid := int(uint(low+high) >> 1)
		switch w := f.Windows[mid]; {
		case addr < w.Start:
			high = mid
		case addr >= w.End:
			low = mid + 1
		default:
			return w, true
		}
	}
	return Window{}, false
}

// FileSize is the size of the FOAM file, bytes: the end of the last window in it.
func (f *FOAM) FileSize() int64 {
	var end uint64
	for _, w := range f.Windows {
		end = max(end, w.Offset+(w.End-w.Start))
	}
	return int64(end)
}

// checkPhysical checks that the windows are page frames.
func (f *FOAM) checkPhysical() error {
	if !f.Physical {
		return nil
	}
	for _, w := range f.Windows {
		if last := w.Offset + (w.End - w.Start) - 1; (w.Start|w.End|w.Offset)%pageSize != 0 || w.Offset/FrameSize != last/FrameSize {
			return fmt.Errorf("%s: window %#x-%#x at %#x: not page frames, or across a multiple of %#x", f.Name, w.Start, w.End, w.Offset, FrameSize)
		}
	}
	return nil
}

// Physical returns where contents of an image lie in physical memory, in no order.
func (s *State) Physical() (all []Extent) {
	for f := range s.foams {
		if f.Physical {
			for _, w := range f.Windows {
				all = append(all, Extent{w.Offset, w.Offset + (w.End - w.Start)})
			}
		}
	}
	return all
}

// foams calls yield for all FOAMs, fallbacks included, until it returns false.
func (s *State) foams(yield func(*FOAM) bool) {
	for main, fallback := range s.pairs {
		if !yield(main) || *fallback != nil && !yield(*fallback) {
			return
		}
	}
}

// pairs calls yield for all FOAMs and where their fallbacks are, until it returns false.
func (s *State) pairs(yield func(main *FOAM, fallback **FOAM) bool) {
	for i := range s.Processes {
		if m := &s.Processes[i].Memory; !yield(&m.FOAM, &m.Fallback) {
			return
		}
	}
	for i := range s.Memories {
		if m := &s.Memories[i]; !yield(&m.FOAM, &m.Fallback) {
			return
		}
	}
}

// HasFallback tells whether everything that is in page frames is in files, too.
func (s *State) HasFallback() bool {
	for main, fallback := range s.pairs {
		if main.Physical && *fallback == nil {
			return false
		}
	}
	return true
}

// UseFallback forgets about page frames: contents come from files. It is for a state that HasFallback.
func (s *State) UseFallback() {
	for main, fallback := range s.pairs {
		if *fallback != nil {
			*main, *fallback = **fallback, nil
		}
	}
}

// Stored is how many bytes of contents it holds.
func (f *FOAM) Stored() int64 {
	var n uint64
	for _, e := range f.Extents {
		n += e.End - e.Start
	}
	return int64(n)
}
