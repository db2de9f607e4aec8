package foam

import (
	"slices"

	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/image"
)

// frameStore has the contents of a FOAM in page frames, one after the other: the frame of an offset is offset / image.FrameSize.
type frameStore struct {
	pieces [][]byte

	pool  *frames.Pool // that new frames come from; nil if it is only read
	taken []frames.Frame
	used  uint64 // offset of what is free of the last one

	mapping *frames.Mapping
}

// openFrames opens what a former kernel has left, for reading.
func openFrames(addrs []uint64) (*frameStore, error) {
	mapping, err := frames.Map(addrs)
	if err != nil {
		return nil, err
	}
	return &frameStore{pieces: mapping.Pieces, mapping: mapping}, nil
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
			offset, size, err := s.extend(e.End - e.Start)
			if err != nil {
				return nil, err
			}
			grown = append(grown, image.Window{Start: e.Start, End: e.Start + size, Offset: offset})
			e.Start += size
		}
	}
	sortWindows(grown)
	return grown, nil
}

// extend returns the place of at most size further bytes, all in one frame.
func (s *frameStore) extend(size uint64) (offset, got uint64, err error) {
	end := uint64(len(s.pieces)) * image.FrameSize
	if s.used == end {
		frame, err := s.pool.Next()
		if err != nil {
			return 0, 0, err
		}
		s.taken = append(s.taken, frame)
		s.pieces = append(s.pieces, frame.Mem)
		end += image.FrameSize
	}
	offset, got = s.used, min(size, end-s.used)
	s.used += got
	return offset, got, nil
}

// describe names the frames. Where there are none, there is nothing.
func (s *frameStore) describe(desc *image.FOAM) {
	for _, f := range s.taken {
		desc.Frames = append(desc.Frames, f.Addr)
	}
	if len(s.taken) == 0 {
		desc.Name = ""
	}
}

// together allows whatever is not too much: the frames are mapped anyway.
func (s *frameStore) together(_ Batch, _ bool, _ image.Extent, bytes, size uint64) bool {
	return bytes <= size
}

// mapped returns what lies in one frame.
func (s *frameStore) mapped(offset int64, size uint64) ([]byte, error) {
	return s.pieces[offset/image.FrameSize][offset%image.FrameSize:][:size:size], nil
}

func (s *frameStore) unmap([]byte) error { return nil }

func (s *frameStore) readAt(p []byte, offset int64) error {
	mem, err := s.mapped(offset, uint64(len(p)))
	copy(p, mem)
	return err
}

func (s *frameStore) keep(int64, uint64) error    { return nil }
func (s *frameStore) reserve(int64, uint64) error { return nil }
func (s *frameStore) sync() error                 { return nil }

func (s *frameStore) close() error {
	if s.mapping != nil {
		return s.mapping.Close()
	}
	s.pool.Return(s.taken)
	return nil
}
