package foam

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// fileStore has the contents of a FOAM in a sparse file.
type fileStore struct {
	file     *os.File
	writable bool
	kept     []keptPart // ascending
}

// keptPart is a part of the file that stays mapped.
type keptPart struct {
	offset int64
	mem    []byte
}

func (k *keptPart) end() int64 { return k.offset + int64(len(k.mem)) }

func createFile(path string, windows []image.Window) (*fileStore, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("creating a FOAM file: %w", err)
	}
	s := &fileStore{file: file, writable: true}
	if err := s.resize(windows); err != nil {
		file.Close()
		os.Remove(path)
		return nil, err
	}
	return s, nil
}

func openFile(path string, size int64) (*fileStore, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening a FOAM file: %w", err)
	}
	info, err := file.Stat()
	if err == nil && info.Size() != size {
		err = fmt.Errorf("FOAM file %s is %d bytes long instead of %d", path, info.Size(), size)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return &fileStore{file: file}, nil
}

func (s *fileStore) name() string { return filepath.Base(s.file.Name()) }

func (s *fileStore) grow(windows []image.Window, ranges, _ []image.Extent) ([]image.Window, error) {
	grown := Grow(windows, ranges)
	if len(grown) == len(windows) {
		return windows, nil
	}
	return grown, s.resize(grown)
}

func (s *fileStore) resize(windows []image.Window) error {
	size := (&image.FOAM{Windows: windows}).FileSize()
	return explainSize(s.file.Name(), size, s.file.Truncate(size))
}

// explainSize says what to do about the error, if any, of giving a file its size, bytes.
func explainSize(path string, size int64, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kernel.EFBIG):
		return fmt.Errorf("FOAM file %s: its file system refuses a sparse file of %d GiB (ext4 with blocks of 1 KiB ends at 4 TiB); "+
			"use a directory on another file system: %w", path, size>>30, err)
	}
	return fmt.Errorf("FOAM file %s: %w", path, err)
}

func (s *fileStore) describe(*image.FOAM) {}

// together allows what lies between two multiples of size: one mapping of the file.
func (s *fileStore) together(b Batch, sameWindow bool, more image.Extent, _, size uint64) bool {
	return sameWindow && b[0].Start&^(size-1) == more.Start&^(size-1)
}

func (s *fileStore) mapped(offset int64, size uint64) ([]byte, error) {
	if mem := s.keptAt(offset, size); mem != nil {
		return mem, nil
	}
	return kernel.MapFile(s.file, offset, int(size), s.writable)
}

// keptAt returns what is kept mapped, or nil.
func (s *fileStore) keptAt(offset int64, size uint64) []byte {
	i := sort.Search(len(s.kept), func(i int) bool { return s.kept[i].end() > offset })
	if i == len(s.kept) || s.kept[i].offset > offset || s.kept[i].end() < offset+int64(size) {
		return nil
	}
	return s.kept[i].mem[offset-s.kept[i].offset:][:size:size]
}

func (s *fileStore) unmap(mem []byte) error {
	at := kernel.AddressOf(mem)
	isKept := func(k keptPart) bool {
		start := kernel.AddressOf(k.mem)
		return start <= at && at < start+uint64(len(k.mem))
	}
	if slices.ContainsFunc(s.kept, isKept) {
		return nil
	}
	return kernel.Unmap(mem)
}

func (s *fileStore) keep(offset int64, size uint64) error {
	mem, err := kernel.MapFile(s.file, offset, int(size), true)
	if err == nil {
		s.kept = append(s.kept, keptPart{offset, mem})
	}
	return err
}

func (s *fileStore) readAt(p []byte, offset int64) error {
	_, err := s.file.ReadAt(p, offset)
	return err
}

func (s *fileStore) reserve(offset int64, size uint64) error {
	if mem := s.keptAt(offset, size); mem != nil && kernel.PopulateWrite(mem) == nil {
		return nil
	}
	if err := kernel.Allocate(s.file, offset, int64(size)); err != nil {
		return fmt.Errorf("FOAM file %s: reserving %d bytes: %w", s.file.Name(), size, err)
	}
	return nil
}

func (s *fileStore) sync() error { return kernel.SyncData(s.file) }

func (s *fileStore) close() error {
	var errs []error
	for _, k := range s.kept {
		errs = append(errs, kernel.Unmap(k.mem))
	}
	s.kept = nil
	return errors.Join(append(errs, s.file.Close())...)
}
