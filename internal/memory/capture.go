package memory

import (
	"fmt"
	"os"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
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
	Holders   map[int]int      // by process ID: the copy made by fork that keeps what DumpHeld reads; see tracee.Holder
	Frames    *frames.Pool     // where contents go instead of files; nil: into files
	InPlace   *frames.InPlace  // what lets private memory stay where it is; nil: it is copied
	Fallback  bool             // with Frames: contents go into files as well; the rounds of pre-copy are for these then

	surveyed map[int]map[procfs.Mapping]image.VMA // by process ID
	alone    map[int]foam.Extents                 // by process ID: where nobody else had a page when Survey looked

	left   map[int]foam.Extents // what Dump or DumpHeld has to copy of each process
	open   map[int]*foam.File   // by process ID, but for those in Precopies
	second map[int]*fallback    // by process ID
	kept   []*foam.File         // of shared memory in page frames
	shared map[inode]*sharedSource
}

// AddressSpace describes the mappings of a frozen process. The scratch area of an injection, [skip, skip+n), is not the process's own.
func (c *Capture) AddressSpace(p *image.Process, skip, n uint64) error {
	all, lockFuture, err := c.frozenMappings(p.PID, skip, n)
	if err != nil {
		return err
	}
	p.Memory.LockFuture = lockFuture
	for i := range all {
		v := &all[i]
		if v.Kind == image.VMAShared {
			if v.Object, err = c.sharedByMapping(p.PID, &v.mapping); err != nil {
				return err
			}
		}
		p.Memory.VMAs = append(p.Memory.VMAs, v.VMA)
	}
	return c.layout(p)
}

// FindPages finds the pages of a frozen process that AddressSpace has described, and lays out its FOAM. What a holder keeps is left to FindHeld.
func (c *Capture) FindPages(p *image.Process) error {
	stored, own, err := findPages(p, p.PID, c.known(p.PID), c.inFreeze(p))
	if err != nil {
		return err
	}
	return c.planFOAM(p, stored, own)
}

// inFreeze tells of the mappings of a process which Dump copies: all of them, or those that its holder does not keep.
func (c *Capture) inFreeze(p *image.Process) func(*image.VMA) bool {
	held := c.Holders[p.PID] != 0
	return func(v *image.VMA) bool { return !held || !forked(v) }
}

// findPages finds the own pages of those mappings of a process that are wanted, in the address space of pid, and returns these mappings as far as
// they have any.
func findPages(p *image.Process, pid int, k known, wanted func(*image.VMA) bool) (stored []image.Extent, own ownPages, err error) {
	finder, err := newPageFinder(pid)
	if err != nil {
		return nil, own, err
	}
	defer finder.Close()
	if finder.before = k.places; k.places != nil {
		if err := finder.readOnly(); err != nil {
			return nil, own, err
		}
	}
	for i := range p.Memory.VMAs {
		v := &p.Memory.VMAs[i]
		if !hasOwnPages(v) || !wanted(v) {
			continue
		}
		var here ownPages
		if err := finder.own(v.Start, v.End, k.seen, &here); err != nil {
			return nil, own, fmt.Errorf("pid %d: pages of mapping %x-%x: %w", p.PID, v.Start, v.End, err)
		}
		v.Guards = here.guards
		if len(here.all) > 0 {
			stored = append(stored, image.Extent{Start: v.Start, End: v.End})
		}
		own.all, own.written = appendRuns(own.all, here.all), appendRuns(own.written, here.written)
	}
	return stored, own, nil
}

// known is what pre-copy knows of the pages of a process; nothing without it.
type known struct {
	seen   foam.Extents // that it may have protected against writing
	places *places      // where they were when it cleared their soft-dirty bits; nil if it did not
}

func (c *Capture) known(pid int) (k known) {
	p := c.Precopies[pid]
	if p == nil {
		return k
	}
	k.seen = p.seen
	if s, ok := p.tracker.(*softDirty); ok {
		k.places = &s.places
		k.places.rewind()
	}
	return k
}

// planFOAM lays the FOAM of a process out, or what pre-copy has made of it, and notes which pages are left to be copied.
func (c *Capture) planFOAM(p *image.Process, stored []image.Extent, own ownPages) error {
	pages := foam.Merged(own.all...)
	left := pages
	file, err := c.file(p.PID)
	switch {
	case err != nil:
		return err
	case file == nil: // Dump makes it
		p.Memory.FOAM = image.FOAM{Name: foamName(p.PID), Windows: foam.Plan(stored), Extents: pages}
	default:
		staying, err := c.adopt(p, file, pages)
		if err != nil {
			return err
		}
		left = pages.Minus(staying)
		if err := file.Grow(stored, pages); err != nil {
			return err
		}
		p.Memory.FOAM = file.Describe(pages)
	}
	if precopy := c.Precopies[p.PID]; precopy != nil {
		written := precopy.remaining(own)
		p.Memory.Hot = precopy.hot(written)
		if !c.Fallback {
			left = written
		}
	}
	if c.left == nil {
		c.left = map[int]foam.Extents{}
	}
	c.left[p.PID] = left
	if c.Fallback {
		return c.planFallback(p, stored, own)
	}
	return nil
}

// adopt lets those pages of a process stay where they are that can, and returns them.
func (c *Capture) adopt(p *image.Process, file *foam.File, pages foam.Extents) (staying foam.Extents, err error) {
	if c.InPlace == nil {
		return nil, nil
	}
	var mappings []image.Extent
	for i := range p.Memory.VMAs {
		if v := &p.Memory.VMAs[i]; hasOwnPages(v) {
			mappings = append(mappings, image.Extent{Start: v.Start, End: v.End})
		}
	}
	runs, err := c.InPlace.Claim(p.PID, mappings)
	if err != nil {
		return nil, fmt.Errorf("pid %d: page frames: %w", p.PID, err)
	}
	adopted := within(runs, pages)
	for _, r := range adopted {
		staying = append(staying, r.Extent())
	}
	file.Adopt(adopted)
	return staying, nil
}

// within returns the part of runs, ascending by address, that is in pages.
func within(runs []frames.Run, pages foam.Extents) (part []frames.Run) {
	for _, r := range runs {
		e := r.Extent()
		for len(pages) > 0 && pages[0].End <= e.Start {
			pages = pages[1:]
		}
		for i := 0; i < len(pages) && pages[i].Start < e.End; i++ {
			part = append(part, r.At(image.Extent{Start: max(e.Start, pages[i].Start), End: min(e.End, pages[i].End)}))
		}
	}
	return part
}

// file returns the FOAM of a process that is there before Dump, nil if there is none.
func (c *Capture) file(pid int) (*foam.File, error) {
	if precopy := c.Precopies[pid]; precopy != nil && !c.Fallback {
		return precopy.file, nil
	}
	if f := c.open[pid]; f != nil || c.Frames == nil {
		return f, nil
	}
	return c.create(pid, nil)
}

// newFile makes a FOAM.
func (c *Capture) newFile(name string, windows []image.Window) (*foam.File, error) {
	if c.Frames != nil {
		return foam.CreateInFrames(c.Frames, name), nil
	}
	return foam.Create(c.Path(name), windows)
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

// HostVDSO describes the [vdso] of the running kernel, from our own.
func HostVDSO() (image.VDSO, error) { return readVDSO(os.Getpid()) }
