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
	"github.com/kup-project/kup/internal/parallel"
)

// ErrOutside says that addresses lie in no window, or not all in the same one.
var ErrOutside = errors.New("not in one window")

// pageSize is what mappings are multiples of, bytes.
const pageSize = 4096

// File is an open FOAM file. Its methods, Grow and Close excepted, may be called by several goroutines at once; those that write
// (to mappings, too) on disjoint addresses.
type File struct {
	file     *os.File // nil if the contents are in page frames
	frames   *frameStore
	layout   image.FOAM // without extents
	writable bool
	kept     []keptRun // ascending
}

// keptRun is a run of pages that stays mapped.
type keptRun struct {
	image.Extent
	mem []byte
}

// Create makes a FOAM file with nothing but holes, for reading and writing. An existing file is an error.
func Create(path string, windows []image.Window) (*File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("creating a FOAM file: %w", err)
	}
	f := &File{file: file, layout: image.FOAM{Name: filepath.Base(path), Windows: slices.Clone(windows)}, writable: true}
	if err := f.resize(); err != nil {
		file.Close()
		os.Remove(path)
		return nil, err
	}
	return f, nil
}

// Open opens the FOAM file at path, which desc describes, for reading; or the page frames that desc names instead.
func Open(path string, desc image.FOAM) (*File, error) {
	if len(desc.Frames) > 0 {
		return openFrames(desc)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening a FOAM file: %w", err)
	}
	info, err := file.Stat()
	if err == nil && info.Size() != desc.FileSize() {
		err = fmt.Errorf("FOAM file %s is %d bytes long instead of %d", path, info.Size(), desc.FileSize())
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return &File{file: file, layout: image.FOAM{Name: desc.Name, Windows: slices.Clone(desc.Windows)}}, nil
}

// Grow adds windows so that pages are covered too, and with them the ranges that they are part of: these make few windows. Page frames are for pages
// alone. Addresses that were covered keep their place.
func (f *File) Grow(ranges, pages []image.Extent) error {
	if f.frames != nil {
		return f.growFrames(pages)
	}
	before := f.layout.Windows
	f.layout.Windows = Grow(before, ranges)
	if len(f.layout.Windows) == len(before) {
		return nil
	}
	if err := f.resize(); err != nil {
		f.layout.Windows = before
		return err
	}
	return nil
}

func (f *File) resize() error {
	size := f.layout.FileSize()
	return explainSize(f.file.Name(), size, f.file.Truncate(size))
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

// Describe returns the file's entry for an image.
func (f *File) Describe(extents Extents) image.FOAM {
	desc := image.FOAM{Name: f.layout.Name, Windows: slices.Clone(f.layout.Windows), Extents: slices.Clone(extents)}
	if f.frames != nil {
		if desc.Frames = f.frames.addresses(); len(desc.Frames) == 0 {
			desc.Name = "" // there is nothing
		}
	}
	return desc
}

// Windows returns the windows, ascending by address. The caller leaves them as they are.
func (f *File) Windows() []image.Window { return f.layout.Windows }

// OS returns the file itself, for system calls that move contents without a mapping.
func (f *File) OS() *os.File { return f.file }

// Offset returns where the byte at addr lies in the file, and whether a window covers it.
func (f *File) Offset(addr uint64) (int64, bool) { return f.layout.Offset(addr) }

// place returns the file offset of an extent that lies in one window, or an error that matches ErrOutside.
func (f *File) place(ext image.Extent) (int64, error) {
	w, ok := f.layout.Window(ext.Start)
	if !ok || ext.Start > ext.End || ext.End > w.End {
		return 0, fmt.Errorf("FOAM file %s: addresses %#x-%#x: %w", f.layout.Name, ext.Start, ext.End, ErrOutside)
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
	if f.frames != nil {
		return f.frames.at(offset, ext.End-ext.Start), nil
	}
	if run := f.keptAt(ext.Start); run != nil && ext.End <= run.End {
		return run.mem[ext.Start-run.Start : ext.End-run.Start], nil
	}
	if ext.Start == ext.End || ext.Start%pageSize != 0 || ext.End%pageSize != 0 {
		return nil, fmt.Errorf("FOAM file %s: mapping %#x-%#x: not a run of whole pages", f.layout.Name, ext.Start, ext.End)
	}
	mem, err := kernel.MapFile(f.file, offset, int(ext.End-ext.Start), f.writable)
	if err != nil {
		return nil, fmt.Errorf("FOAM file %s: mapping %#x-%#x: %w", f.file.Name(), ext.Start, ext.End, err)
	}
	return mem, nil
}

// Unmap ends a mapping made by Map. What was written stays in the file.
func (f *File) Unmap(mem []byte) error {
	if f.frames != nil {
		return nil
	}
	at := kernel.AddressOf(mem)
	for i := range f.kept {
		if start := kernel.AddressOf(f.kept[i].mem); at >= start && at < start+uint64(len(f.kept[i].mem)) {
			return nil
		}
	}
	return kernel.Unmap(mem)
}

// Keep maps runs, as Runs returns them, until Close, with blocks behind them and the page tables filled: to write to what Map returns of them is
// then as fast as memory is. It must not be called twice, nor together with other methods. ENOSPC if the file system is full.
func (f *File) Keep(runs []image.Extent) error {
	if f.frames != nil {
		return nil
	}
	for _, e := range runs {
		mem, err := f.Map(e)
		if err != nil {
			return err
		}
		f.kept = append(f.kept, keptRun{e, mem})
	}
	return parallel.Gently(f.kept, func(run keptRun) error {
		if kernel.PopulateWrite(run.mem) != nil {
			return f.Reserve(run.Extent) // and says why it is not possible
		}
		return nil
	})
}

// keptAt returns the run that an address is in, or nil.
func (f *File) keptAt(addr uint64) *keptRun {
	i := sort.Search(len(f.kept), func(i int) bool { return f.kept[i].End > addr })
	if i == len(f.kept) || f.kept[i].Start > addr {
		return nil
	}
	return &f.kept[i]
}

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
	if err != nil || ext.Start == ext.End || f.frames != nil {
		return err
	}
	if err := kernel.Allocate(f.file, offset, int64(ext.End-ext.Start)); err != nil {
		return fmt.Errorf("FOAM file %s: reserving %d bytes: %w", f.file.Name(), ext.End-ext.Start, err)
	}
	return nil
}

// ReadAt fills p with the contents from addr on, all in one window. Holes are zeros.
func (f *File) ReadAt(p []byte, addr uint64) (int, error) {
	offset, err := f.place(image.Extent{Start: addr, End: addr + uint64(len(p))})
	if err != nil || len(p) == 0 {
		return 0, err
	}
	if f.frames != nil {
		return copy(p, f.frames.at(offset, uint64(len(p)))), nil
	}
	return f.file.ReadAt(p, offset)
}

// WriteAt stores p as the contents from addr on, all in one window.
func (f *File) WriteAt(p []byte, addr uint64) (int, error) {
	offset, err := f.place(image.Extent{Start: addr, End: addr + uint64(len(p))})
	if err != nil || len(p) == 0 {
		return 0, err
	}
	if f.frames != nil {
		return copy(f.frames.at(offset, uint64(len(p))), p), nil
	}
	return f.file.WriteAt(p, offset)
}

// Punch turns ext into a hole, as far as windows cover it. Page frames keep what they have: only extents count.
func (f *File) Punch(ext image.Extent) error {
	if f.frames != nil {
		return nil
	}
	for _, w := range f.layout.Windows {
		start, end := max(ext.Start, w.Start), min(ext.End, w.End)
		if start >= end {
			continue
		}
		if err := kernel.PunchHole(f.file, int64(w.Offset+(start-w.Start)), int64(end-start)); err != nil {
			return fmt.Errorf("FOAM file %s: punching %#x-%#x: %w", f.file.Name(), start, end, err)
		}
	}
	return nil
}

// Sync writes everything to the device and waits. image.Writer.Commit does so for all files of an image.
func (f *File) Sync() error {
	if f.frames != nil {
		return nil
	}
	return kernel.SyncData(f.file)
}

// Close closes the file, and ends what Keep has mapped. Other mappings stay valid until Unmap.
func (f *File) Close() error {
	if f.frames != nil {
		return f.frames.close()
	}
	var errs []error
	for _, run := range f.kept {
		errs = append(errs, kernel.Unmap(run.mem))
	}
	f.kept = nil
	return errors.Join(append(errs, f.file.Close())...)
}

// CheckSpace returns an error if the file system of dir has no room for size bytes more.
func CheckSpace(dir string, size uint64) error {
	free, err := kernel.FreeSpace(dir)
	if err != nil || free < 0 || uint64(free) >= size {
		return err
	}
	return fmt.Errorf("%s: %d MiB of memory are to be stored, and its file system has room for %d MiB; "+
		"make room or choose another directory", dir, size>>20, free>>20)
}
