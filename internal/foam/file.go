package foam

import (
	"errors"
	"fmt"
	"slices"

	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// ErrOutside says that addresses lie in no window, or not all in the same one.
var ErrOutside = errors.New("not in one window")

// pageSize is what mappings are multiples of, bytes.
const pageSize = 4096

// File is an open FOAM file. Its methods, Grow, Keep and Close excepted, may be called by several goroutines at once; those that write
// to mappings on disjoint addresses.
type File struct {
	layout image.FOAM // without extents
	store  store
}

// store is where the contents are: in a file, or in page frames. Offsets are those of the layout's windows.
type store interface {
	// grow returns windows with others added, so that they cover pages too. Ranges are what the pages are parts of.
	grow(windows []image.Window, ranges, pages []image.Extent) ([]image.Window, error)
	// describe adds what an image says of a store of this kind.
	describe(*image.FOAM)
	// mapped returns what lies at an offset, until unmap.
	mapped(offset int64, size uint64) ([]byte, error)
	unmap([]byte) error
	readAt(p []byte, offset int64) error
	// together tells whether one more run, in the same window as the last of a batch or not, can be moved with it: bytes is how much it would have then.
	together(b Batch, sameWindow bool, more image.Extent, bytes, size uint64) bool
	// keep maps so much at an offset until close. Calls come in ascending order.
	keep(offset int64, size uint64) error
	// reserve makes sure that there is room behind what is written to later, and in what is kept page tables.
	reserve(offset int64, size uint64) error
	sync() error
	close() error
}

// Create makes a FOAM file with nothing but holes, for reading and writing. An existing file is an error.
func Create(path string, windows []image.Window) (*File, error) {
	store, err := createFile(path, windows)
	if err != nil {
		return nil, err
	}
	return &File{image.FOAM{Name: store.name(), Windows: slices.Clone(windows)}, store}, nil
}

// CreateInFrames makes a FOAM with nothing but holes, for reading and writing, whose contents go into page frames of a pool. Close puts them back.
func CreateInFrames(pool *frames.Pool, name string) *File {
	return &File{image.FOAM{Name: name}, &frameStore{pool: pool, taken: map[uint64]frames.Frame{}}}
}

// Open opens the FOAM file at path, which desc describes, for reading; or the page frames that desc names instead.
func Open(path string, desc image.FOAM) (*File, error) {
	var s store
	var err error
	if desc.Physical {
		s, err = openFrames(desc.Windows)
	} else {
		s, err = openFile(path, desc.FileSize())
	}
	if err != nil {
		return nil, err
	}
	return &File{image.FOAM{Name: desc.Name, Windows: slices.Clone(desc.Windows)}, s}, nil
}

// InFrames tells a FOAM in page frames from one in a file.
func (f *File) InFrames() bool {
	_, is := f.store.(*frameStore)
	return is
}

// Grow adds windows so that pages are covered too, and with them the ranges that they are part of: these make few windows. Page frames are for pages
// alone. Addresses that were covered keep their place.
func (f *File) Grow(ranges, pages []image.Extent) error {
	windows, err := f.store.grow(f.layout.Windows, ranges, pages)
	if err == nil {
		f.layout.Windows = windows
	}
	return err
}

// Adopt lets pages be where they are, in a FOAM made by CreateInFrames, which cannot show their contents.
func (f *File) Adopt(runs []frames.Run) {
	f.layout.Windows = f.store.(*frameStore).adopt(f.layout.Windows, runs)
}

// Describe returns the file's entry for an image.
func (f *File) Describe(extents Extents) image.FOAM {
	desc := image.FOAM{Name: f.layout.Name, Windows: slices.Clone(f.layout.Windows), Extents: slices.Clone(extents)}
	f.store.describe(&desc)
	return desc
}

// Windows returns the windows, ascending by address. The caller leaves them as they are.
func (f *File) Windows() []image.Window { return f.layout.Windows }

// place returns the offset of an extent of whole pages that lies in one window, or an error that matches ErrOutside.
func (f *File) place(ext image.Extent) (int64, error) {
	w, ok := f.layout.Window(ext.Start)
	if !ok || ext.Start > ext.End || ext.End > w.End {
		return 0, fmt.Errorf("FOAM file %s: addresses %#x-%#x: %w", f.layout.Name, ext.Start, ext.End, ErrOutside)
	}
	if ext.Start == ext.End || ext.Start%pageSize != 0 || ext.End%pageSize != 0 {
		return 0, fmt.Errorf("FOAM file %s: addresses %#x-%#x: not a run of whole pages", f.layout.Name, ext.Start, ext.End)
	}
	return int64(w.Offset + (ext.Start - w.Start)), nil
}

// Map maps the contents of the addresses ext, page-aligned, not empty and in one window: for reading, and for writing too if the
// file was made by Create. Unmap ends it. Writing to a mapping of a hole is a SIGBUS when the file system is full (system calls
// that write to it give EFAULT): Reserve before. Mappings cost address space and page tables: map what is worked on, see Runs.
func (f *File) Map(ext image.Extent) ([]byte, error) {
	offset, err := f.place(ext)
	if err != nil {
		return nil, err
	}
	mem, err := f.store.mapped(offset, ext.End-ext.Start)
	if err != nil {
		return nil, fmt.Errorf("FOAM file %s: mapping %#x-%#x: %w", f.layout.Name, ext.Start, ext.End, err)
	}
	return mem, nil
}

// Unmap ends a mapping made by Map. What was written stays in the file.
func (f *File) Unmap(mem []byte) error { return f.store.unmap(mem) }

// Runs cuts extents into runs that Map and the like can take: each in one window, at most size bytes long (a power of two), and
// none across a multiple of size. What lies in no window is left out.
func (f *File) Runs(x Extents, size uint64) []image.Extent {
	var out []image.Extent
	for _, w := range f.layout.Windows {
		out = append(out, x.Within(image.Extent{Start: w.Start, End: w.End}).Chunks(size)...)
	}
	return out
}

// Reserve makes sure that blocks stand behind ext, which lies in one window. ENOSPC if the file system is full.
func (f *File) Reserve(ext image.Extent) error {
	offset, err := f.place(ext)
	if err == nil {
		err = f.store.reserve(offset, ext.End-ext.Start)
	}
	return err
}

// ReadAt fills p with the contents from addr on, all in windows. Holes are zeros.
func (f *File) ReadAt(p []byte, addr uint64) error {
	for len(p) > 0 {
		w, ok := f.layout.Window(addr)
		if !ok {
			return fmt.Errorf("FOAM file %s: addresses %#x-%#x: %w", f.layout.Name, addr, addr+uint64(len(p)), ErrOutside)
		}
		part := min(uint64(len(p)), w.End-addr)
		if err := f.store.readAt(p[:part], int64(w.Offset+(addr-w.Start))); err != nil {
			return err
		}
		p, addr = p[part:], addr+part
	}
	return nil
}

// Release lets go of the page frames below a physical address, which nobody may read any more.
func (f *File) Release(below uint64) error {
	if s, is := f.store.(*frameStore); is && s.memory != nil {
		return s.memory.Release(below)
	}
	return nil
}

// Sync writes everything to the device and waits. image.Writer.Commit does so for all files of an image.
func (f *File) Sync() error { return f.store.sync() }

// Close closes the file, and ends what Keep has mapped. Other mappings stay valid until Unmap.
func (f *File) Close() error { return f.store.close() }

// CheckSpace returns an error if the file system of dir has no room for size bytes more.
func CheckSpace(dir string, size uint64) error {
	free, err := kernel.FreeSpace(dir)
	if err != nil || free < 0 || uint64(free) >= size {
		return err
	}
	return fmt.Errorf("%s: %d MiB of memory are to be stored, and its file system has room for %d MiB; "+
		"make room or choose another directory", dir, size>>20, free>>20)
}
