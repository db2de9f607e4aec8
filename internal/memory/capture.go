package memory

import (
	"bytes"
	"fmt"
	"os"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/parallel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
)

// chunk is how much one worker moves at a time, bytes: large enough that setting up is cheap, small enough to share.
const chunk = 16 << 20

// Capture collects the address spaces of frozen processes and the memory they share.
type Capture struct {
	State *image.State
	Path  func(name string) string // of a file in the image directory

	Precopies map[int]*Precopy // by process ID

	surveyed map[int]map[procfs.Mapping]image.VMA // by process ID

	left   map[int]foam.Extents // what Dump has to copy of each process
	shared map[inode]*sharedSource
}

// AddressSpace describes the mappings and pages of a frozen process. The scratch area of an injection, [skip, skip+n), is not
// the process's own.
func (c *Capture) AddressSpace(p *image.Process, skip, n uint64) error {
	all, lockFuture, err := c.frozenMappings(p.PID, skip, n)
	if err != nil {
		return err
	}
	finder, err := newPageFinder(p.PID)
	if err != nil {
		return err
	}
	defer finder.Close()
	finder.before = c.placesBefore(p.PID)
	p.Memory.LockFuture = lockFuture
	var stored []image.Extent
	var own ownPages
	for i := range all {
		v := &all[i]
		if v.Kind == image.VMAShared {
			if v.Object, err = c.sharedByMapping(p.PID, &v.mapping); err != nil {
				return err
			}
		}
		if hasOwnPages(&v.VMA) {
			var here ownPages
			if err := finder.own(v.Start, v.End, c.seen(p.PID), &here); err != nil {
				return fmt.Errorf("pid %d: pages of mapping %x-%x: %w", p.PID, v.Start, v.End, err)
			}
			v.Guards = here.guards
			if len(here.all) > 0 {
				stored = append(stored, image.Extent{Start: v.Start, End: v.End})
			}
			own.all, own.written = append(own.all, here.all...), append(own.written, here.written...)
		}
		p.Memory.VMAs = append(p.Memory.VMAs, v.VMA)
	}
	if err := c.planFOAM(p, stored, own); err != nil {
		return err
	}
	return c.layout(p)
}

// seen are the pages of a process that pre-copy may have protected against writing; nil without pre-copy.
func (c *Capture) seen(pid int) foam.Extents {
	if p := c.Precopies[pid]; p != nil {
		return p.seen
	}
	return nil
}

// placesBefore are where the pages of a process were when pre-copy cleared their soft-dirty bits; nil if it did not.
func (c *Capture) placesBefore(pid int) *places {
	if p := c.Precopies[pid]; p != nil {
		if s, ok := p.tracker.(*softDirty); ok {
			s.places.rewind()
			return &s.places
		}
	}
	return nil
}

// planFOAM lays the FOAM of a process out, or what pre-copy has made of it, and notes which pages are left to be copied.
func (c *Capture) planFOAM(p *image.Process, stored []image.Extent, own ownPages) error {
	f := &p.Memory.FOAM
	f.Name, f.Windows, f.Extents = foamName(p.PID), foam.Plan(stored), foam.Merged(own.all...)
	left := foam.Extents(f.Extents)
	if precopy := c.Precopies[p.PID]; precopy != nil {
		if err := precopy.file.Grow(stored); err != nil {
			return err
		}
		f.Windows = precopy.file.Windows()
		left = precopy.remaining(own)
		p.Memory.Hot = precopy.hot(left)
	}
	if c.left == nil {
		c.left = map[int]foam.Extents{}
	}
	c.left[p.PID] = left
	return nil
}

// hasOwnPages reports whether a mapping can hold pages that only the process has. What is droppable is not saved: its owner
// must be ready to lose it, and the state of a random number generator must not come back twice.
func hasOwnPages(v *image.VMA) bool {
	switch v.Kind {
	case image.VMAAnon, image.VMAHugeTLB, image.VMADevice:
		return true
	case image.VMAFile, image.VMAShared:
		return !v.Shared
	}
	return false
}

// Private is how many bytes of a process's address space can hold pages that only it has.
func Private(p *image.Process) (bytes int64) {
	for i := range p.Memory.VMAs {
		if v := &p.Memory.VMAs[i]; hasOwnPages(v) {
			bytes += int64(v.End - v.Start)
		}
	}
	return bytes
}

func hasFlag(v image.VMA, flag string) bool {
	for _, f := range v.Flags {
		if f == flag {
			return true
		}
	}
	return false
}

// layout records where the program's parts are, for PR_SET_MM_MAP.
func (c *Capture) layout(p *image.Process) error {
	st, err := procfs.ReadStat(p.PID)
	if err != nil {
		return err
	}
	m := &p.Memory
	m.StartCode, m.EndCode, m.StartData, m.EndData = st.StartCode, st.EndCode, st.StartData, st.EndData
	m.StartBrk, m.StartStack = st.StartBrk, st.StartStack
	m.ArgStart, m.ArgEnd, m.EnvStart, m.EnvEnd = st.ArgStart, st.ArgEnd, st.EnvStart, st.EnvEnd
	if m.Auxv, err = kernel.ReadFile(procfs.Path(p.PID, "auxv")); err != nil {
		return err
	}
	m.Exe, err = exeFile(p.PID)
	return err
}

func exeFile(pid int) (image.MapFile, error) {
	link := procfs.Path(pid, "exe")
	path, err := os.Readlink(link)
	if err != nil {
		return image.MapFile{}, fmt.Errorf("executable of pid %d: %w", pid, err)
	}
	info, err := os.Stat(link)
	if err != nil {
		return image.MapFile{}, fmt.Errorf("executable of pid %d: %w", pid, err)
	}
	byPath, err := os.Stat(path)
	if err != nil || !os.SameFile(info, byPath) {
		return image.MapFile{}, refuse.Errorf("pid %d: its executable %s has been deleted or replaced; restart the application to pick up the new one", pid, path)
	}
	return image.MapFile{Path: path, Size: info.Size(), Mtime: info.ModTime().UnixNano()}, nil
}

// Left is how many bytes of a process Dump will copy.
func (c *Capture) Left(p *image.Process) int64 { return int64(c.left[p.PID].Total()) }

// Dump copies the pages of a process that AddressSpace described into its FOAM file, without those that pre-copy has brought there.
func (c *Capture) Dump(p *image.Process, moved func(bytes int64)) error {
	var f *foam.File
	if precopy := c.Precopies[p.PID]; precopy != nil {
		f = precopy.file
	} else {
		var err error
		if f, err = foam.Create(c.Path(p.Memory.FOAM.Name), p.Memory.FOAM.Windows); err != nil {
			return err
		}
		defer f.Close()
	}
	var small, large []image.Extent
	for _, e := range f.Runs(c.left[p.PID], chunk) {
		if e.End-e.Start <= smallRun {
			small = append(small, e)
		} else {
			large = append(large, e)
		}
	}
	read := reader(p)
	if err := dumpSmall(p.PID, f, small, read, moved); err != nil {
		return err
	}
	return parallel.Each(large, func(e image.Extent) error {
		mem, err := f.Map(e)
		if err != nil {
			return err
		}
		defer kernel.Unmap(mem)
		if err := read(e.Start, mem); err != nil {
			return err
		}
		moved(int64(len(mem)))
		return nil
	})
}

// What is at most smallRun bytes long is copied through a buffer of gathered bytes, which costs less than a mapping of the file each.
const (
	smallRun = 64 << 10
	gathered = 1 << 20
)

// dumpSmall copies many small runs of pages.
func dumpSmall(pid int, f *foam.File, runs []image.Extent, read func(uint64, []byte) error, moved func(bytes int64)) error {
	buf := make([]byte, min(foam.Extents(runs).Total(), gathered))
	for len(runs) > 0 {
		var ranges []kernel.MemoryRange
		size := uint64(0)
		for _, e := range runs {
			if size+e.End-e.Start > gathered {
				break
			}
			size += e.End - e.Start
			ranges = append(ranges, kernel.MemoryRange(e))
		}
		together := kernel.GatherMemory(pid, ranges, buf) == nil
		rest := buf
		for _, e := range runs[:len(ranges)] {
			part := rest[:e.End-e.Start]
			rest = rest[len(part):]
			if !together {
				if err := read(e.Start, part); err != nil {
					return err
				}
			}
			if _, err := f.WriteAt(part, e.Start); err != nil {
				return err
			}
		}
		moved(int64(size))
		runs = runs[len(ranges):]
	}
	return nil
}

// Compare reads every page of a frozen process again and compares it with what its FOAM holds.
func (c *Capture) Compare(p *image.Process) error {
	f, err := foam.Open(c.Path(p.Memory.FOAM.Name), p.Memory.FOAM)
	if err != nil {
		return err
	}
	defer f.Close()
	read := reader(p)
	return parallel.Each(f.Runs(p.Memory.FOAM.Extents, chunk), func(e image.Extent) error {
		stored, err := f.Map(e)
		if err != nil {
			return err
		}
		defer f.Unmap(stored)
		now := make([]byte, len(stored))
		if err := read(e.Start, now); err != nil {
			return err
		}
		for at := 0; at < len(now); at += kernel.PageSize {
			if !bytes.Equal(now[at:at+kernel.PageSize], stored[at:at+kernel.PageSize]) {
				return fmt.Errorf("pid %d: the page at %#x differs from its copy in %s: a write was missed, which is a bug in kup", p.PID, e.Start+uint64(at), p.Memory.FOAM.Name)
			}
		}
		return nil
	})
}

// reader chooses how to read a process's pages: those that it may not read itself only come through /proc/PID/mem.
func reader(p *image.Process) func(addr uint64, buf []byte) error {
	return func(addr uint64, buf []byte) error {
		if err := kernel.ReadMemory(p.PID, addr, buf); err == nil {
			return nil
		}
		return kernel.PeekMemory(p.PID, addr, buf)
	}
}

// HostVDSO describes the [vdso] of the running kernel, from our own.
func HostVDSO() (image.VDSO, error) { return readVDSO(os.Getpid()) }
