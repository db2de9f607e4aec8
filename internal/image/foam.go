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

// inFrames tells a FOAM in page frames from one in a file.
func (f *FOAM) inFrames() bool { return len(f.Frames) > 0 }

// checkFrames checks that the windows lie in the frames.
func (f *FOAM) checkFrames() error {
	if !f.inFrames() {
		return nil
	}
	seen := map[uint64]bool{}
	for _, addr := range f.Frames {
		if addr%FrameSize != 0 || seen[addr] {
			return fmt.Errorf("%s: the page frame %#x is no multiple of %#x, or is there twice", f.Name, addr, FrameSize)
		}
		seen[addr] = true
	}
	for _, w := range f.Windows {
		if last := w.Offset + (w.End - w.Start) - 1; w.Offset/FrameSize != last/FrameSize || last/FrameSize >= uint64(len(f.Frames)) {
			return fmt.Errorf("%s: window %#x-%#x at %#x does not lie in one page frame", f.Name, w.Start, w.End, w.Offset)
		}
	}
	return nil
}

// Frames returns the page frames that hold contents of an image.
func (s *State) Frames() (all []uint64) {
	for i := range s.Processes {
		all = append(all, s.Processes[i].Memory.FOAM.Frames...)
	}
	for i := range s.Memories {
		all = append(all, s.Memories[i].FOAM.Frames...)
	}
	return all
}

// Stored is how many bytes of contents it holds.
func (f *FOAM) Stored() int64 {
	var n uint64
	for _, e := range f.Extents {
		n += e.End - e.Start
	}
	return int64(n)
}
