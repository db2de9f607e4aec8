package image

// Offset returns where the byte at addr lies in the FOAM file, and whether a window covers it.
func (f *FOAM) Offset(addr uint64) (int64, bool) {
	w, ok := f.Window(addr)
	if !ok {
		return 0, false
	}
	return int64(w.Offset + (addr - w.Start)), true
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

// Stored is how many bytes of contents it holds.
func (f *FOAM) Stored() int64 {
	var n uint64
	for _, e := range f.Extents {
		n += e.End - e.Start
	}
	return int64(n)
}
