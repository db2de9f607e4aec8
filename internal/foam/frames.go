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

// CreateInFrames makes a FOAM with nothing but holes, for reading and writing, whose contents go into page frames of a pool. Close puts them back.
func CreateInFrames(pool *frames.Pool, name string) *File {
	return &File{frames: &frameStore{pool: pool}, layout: image.FOAM{Name: name}, writable: true}
}

// openFrames opens what a former kernel has left, for reading.
func openFrames(desc image.FOAM) (*File, error) {
	mapping, err := frames.Map(desc.Frames)
	if err != nil {
		return nil, err
	}
	return &File{frames: &frameStore{pieces: mapping.Pieces, mapping: mapping}, layout: image.FOAM{Name: desc.Name, Windows: slices.Clone(desc.Windows)}}, nil
}

// InFrames tells a FOAM in page frames from one in a file.
func (f *File) InFrames() bool { return f.frames != nil }

// growFrames gives pages that have none their place.
func (f *File) growFrames(pages []image.Extent) error {
	var covered Extents
	for _, w := range f.layout.Windows {
		covered = append(covered, image.Extent{Start: w.Start, End: w.End})
	}
	missing := Merged(pages...).Minus(Merged(covered...))
	if len(missing) == 0 {
		return nil
	}
	windows := slices.Clone(f.layout.Windows)
	for _, e := range missing {
		for e.Start < e.End {
			offset, size, err := f.frames.extend(e.End - e.Start)
			if err != nil {
				return err
			}
			windows = append(windows, image.Window{Start: e.Start, End: e.Start + size, Offset: offset})
			e.Start += size
		}
	}
	sortWindows(windows)
	f.layout.Windows = windows
	return nil
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

// at returns size bytes at an offset, which lie in one frame.
func (s *frameStore) at(offset int64, size uint64) []byte {
	return s.pieces[offset/image.FrameSize][offset%image.FrameSize:][:size:size]
}

func (s *frameStore) addresses() (all []uint64) {
	for _, f := range s.taken {
		all = append(all, f.Addr)
	}
	return all
}

func (s *frameStore) close() error {
	if s.mapping != nil {
		return s.mapping.Close()
	}
	s.pool.Return(s.taken)
	return nil
}
