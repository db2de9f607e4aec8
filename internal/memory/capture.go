package memory

import (
	"fmt"
	"os"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
)

// Capture collects the address spaces of frozen processes and the memory they share.
type Capture struct {
	State *image.State
	Path  func(name string) string // of a file in the image directory

	shared map[inode]*sharedSource
}

// AddressSpace describes the mappings and pages of a frozen process. The scratch area of an injection, [skip, skip+n), is not
// the process's own.
func (c *Capture) AddressSpace(p *image.Process, skip, n uint64) error {
	all, err := describe(p.PID)
	if err != nil {
		return err
	}
	finder, err := newPageFinder(p.PID)
	if err != nil {
		return err
	}
	defer finder.Close()
	var stored []image.Extent
	for i := range all {
		v := &all[i]
		if v.Start >= skip && v.End <= skip+n {
			p.Memory.LockFuture = hasFlag(v.VMA, "lo")
			continue
		}
		if v.Kind == image.VMAShared {
			if v.Object, err = c.sharedByMapping(p.PID, &v.mapping); err != nil {
				return err
			}
		}
		if hasOwnPages(&v.VMA) {
			pages, guards, err := finder.own(v.Start, v.End)
			if err != nil {
				return fmt.Errorf("pid %d: pages of mapping %x-%x: %w", p.PID, v.Start, v.End, err)
			}
			v.Guards = guards
			p.Memory.FOAM.Extents = append(p.Memory.FOAM.Extents, pages...)
			if len(pages) > 0 {
				stored = append(stored, image.Extent{Start: v.Start, End: v.End})
			}
		}
		p.Memory.VMAs = append(p.Memory.VMAs, v.VMA)
	}
	p.Memory.FOAM.Name = fmt.Sprintf("pages-%d.foam", p.PID)
	p.Memory.FOAM.Windows = foam.Plan(stored)
	p.Memory.FOAM.Extents = foam.Merged(p.Memory.FOAM.Extents...)
	return c.layout(p)
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
	if m.Auxv, err = os.ReadFile(procfs.Path(p.PID, "auxv")); err != nil {
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
	byPath, err := os.Stat(procfs.Path(pid, "root") + path)
	if err != nil || !os.SameFile(info, byPath) {
		return image.MapFile{}, refuse.Errorf("pid %d: its executable %s has been deleted or replaced; restart the application to pick up the new one", pid, path)
	}
	return image.MapFile{Path: path, Size: info.Size(), Mtime: info.ModTime().UnixNano()}, nil
}

// Dump copies the pages of a process that AddressSpace described into its FOAM file.
func (c *Capture) Dump(p *image.Process, moved func(bytes int64)) error {
	f, err := foam.Create(c.Path(p.Memory.FOAM.Name), p.Memory.FOAM.Windows)
	if err != nil {
		return err
	}
	defer f.Close()
	read := reader(p)
	return inParallel(f.Runs(p.Memory.FOAM.Extents, chunk), func(e image.Extent) error {
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
