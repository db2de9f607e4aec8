package foam

import (
	"slices"

	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/image"
)

// frameStore has the contents of a FOAM in page frames. Offsets are physical addresses.
type frameStore struct {
	// On the way to the next kernel.
	pool  *frames.Pool
	taken map[uint64]frames.Frame // by address
	last  frames.Frame            // of these
	used  uint64                  // bytes of the last

	adopted bool // there are pages in frames of their own

	// In the next kernel.
	memory *frames.Memory
}

// openFrames opens what the last kernel has left, for reading.
func openFrames(windows []image.Window) (*frameStore, error) {
	var places []image.Extent
	for _, w := range windows {
		places = append(places, image.Extent{Start: w.Offset, End: w.Offset + (w.End - w.Start)})
	}
	if err := frames.CheckKept(places); err != nil {
		return nil, err
	}
	memory, err := frames.OpenMemory()
	return &frameStore{memory: memory}, err
}

// adopt lets pages stay in the frames that they are in.
func (s *frameStore) adopt(windows []image.Window, runs []frames.Run) []image.Window {
	grown := slices.Clone(windows)
	for _, r := range runs {
		start, offset := r.Addr, r.Frame*pageSize
		for end := r.Extent().End; start < end; {
			size := min(end-start, image.FrameSize-offset%image.FrameSize)
			grown = append(grown, image.Window{Start: start, End: start + size, Offset: offset})
			start, offset = start+size, offset+size
		}
	}
	s.adopted = s.adopted || len(runs) > 0
	sortWindows(grown)
	return grown
}

// grow gives pages that have none their place.
func (s *frameStore) grow(windows []image.Window, _, pages []image.Extent) ([]image.Window, error) {
	var covered Extents
	for _, w := range windows {
		covered = append(covered, image.Extent{Start: w.Start, End: w.End})
	}
	missing := Merged(pages...).Minus(Merged(covered...))
	if len(missing) == 0 {
		return windows, nil
	}
	grown := slices.Clone(windows)
	for _, e := range missing {
		for e.Start < e.End {
			addr, size, err := s.extend(e.End - e.Start)
			if err != nil {
				return nil, err
			}
			grown = append(grown, image.Window{Start: e.Start, End: e.Start + size, Offset: addr})
			e.Start += size
		}
	}
	sortWindows(grown)
	return grown, nil
}

// extend returns the place of at most size further bytes, all in one frame.
func (s *frameStore) extend(size uint64) (addr, got uint64, err error) {
	if s.used == uint64(len(s.last.Mem)) {
		frame, err := s.pool.Next()
		if err != nil {
			return 0, 0, err
		}
		s.taken[frame.Addr] = frame
		s.last, s.used = frame, 0
	}
	addr, got = s.last.Addr+s.used, min(size, frames.Size-s.used)
	s.used += got
	return addr, got, nil
}

// describe says where the contents are. Where there are none, there is nothing.
func (s *frameStore) describe(desc *image.FOAM) {
	if desc.Physical = len(s.taken) > 0 || s.adopted; !desc.Physical {
		desc.Name = ""
	}
}

// mapped returns what lies in one frame.
func (s *frameStore) mapped(offset int64, size uint64) ([]byte, error) {
	if s.memory != nil {
		return s.memory.At(uint64(offset), size)
	}
	start := uint64(offset) &^ (frames.Size - 1)
	return s.taken[start].Mem[uint64(offset)-start:][:size:size], nil
}

// Binder binds the page frames of a FOAM into processes, see AppendBindings. It is nil if the contents can only be copied.
func (f *File) Binder() *frames.Binder {
	s, is := f.store.(*frameStore)
	if !is || s.memory == nil {
		return nil
	}
	return s.memory.Binder()
}

// AppendBindings adds to a list the page frames of the contents from address from on, size bytes, to be bound at another address. What lies in no window is left out.
func (f *File) AppendBindings(list []frames.Binding, at, from, size uint64) []frames.Binding {
	for end := from + size; from < end; {
		w, ok := f.layout.Window(from)
		if !ok {
			return list
		}
		part := min(end, w.End) - from
		list = append(list, frames.Binding{Address: at, Start: w.Offset + (from - w.Start), Length: part})
		at, from = at+part, from+part
	}
	return list
}

func (s *frameStore) readAt(p []byte, offset int64) error {
	mem, err := s.mapped(offset, uint64(len(p)))
	copy(p, mem)
	return err
}

func (s *frameStore) close() error {
	if s.memory != nil {
		return s.memory.Close()
	}
	var taken []frames.Frame
	for _, f := range s.taken {
		taken = append(taken, f)
	}
	s.pool.Return(taken)
	return nil
}

// together allows whatever is not too much: the frames are mapped anyway.
func (s *frameStore) together(_ Batch, _ bool, _ image.Extent, bytes, size uint64) bool {
	return bytes <= size
}

func (s *frameStore) unmap([]byte) error          { return nil }
func (s *frameStore) keep(int64, uint64) error    { return nil }
func (s *frameStore) reserve(int64, uint64) error { return nil }
func (s *frameStore) sync() error                 { return nil }
