package memory

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/parallel"
	"github.com/kup-project/kup/internal/procfs"
)

// Left is how many bytes of a process Dump will copy, or after FindHeld DumpHeld.
func (c *Capture) Left(p *image.Process) int64 { return int64(c.left[p.PID].Total()) }

// Dump copies the pages of a process that FindPages found into its FOAM file, without those that pre-copy has brought there.
func (c *Capture) Dump(p *image.Process, moved func(bytes int64)) error {
	if precopy := c.Precopies[p.PID]; precopy != nil {
		return copyPages(precopy.file, c.left[p.PID], p.PID, moved)
	}
	f := c.open[p.PID]
	if f == nil {
		var err error
		if f, err = c.create(p.PID, p.Memory.FOAM.Windows); err != nil {
			return err
		}
	}
	return copyPages(f, c.left[p.PID], p.PID, moved)
}

// create makes the FOAM file of a process, which stays open until Close.
func (c *Capture) create(pid int, windows []image.Window) (*foam.File, error) {
	f, err := c.newFile(foamName(pid), windows)
	if err != nil {
		return nil, err
	}
	if c.open == nil {
		c.open = map[int]*foam.File{}
	}
	c.open[pid] = f
	return f, nil
}

// MakeRoom makes the FOAM file of a running process, with room for the pages that it has now, so that the freeze need not. It is worth it where the image
// is in memory: there most of the time of a copy goes into new pages.
func (c *Capture) MakeRoom(pid int) error {
	maps, err := procfs.ReadSMaps(pid)
	if err != nil {
		return err
	}
	finder, err := newPageFinder(pid)
	if err != nil {
		return err
	}
	defer finder.Close()
	var mapped []image.Extent
	var own ownPages
	for i := range maps {
		m := &maps[i]
		if !mayOwnPages(m) {
			continue
		}
		before := len(own.all)
		if err := finder.own(m.Start, m.End, nil, &own); err != nil {
			return err
		}
		if len(own.all) > before {
			mapped = append(mapped, image.Extent{Start: m.Start, End: m.End})
		}
	}
	f, err := c.create(pid, foam.Plan(mapped))
	if err != nil {
		return err
	}
	large := slices.DeleteFunc(f.Runs(foam.Merged(own.all...), chunk), func(e image.Extent) bool { return e.End-e.Start <= smallRun })
	return f.Keep(large)
}

// What is at most smallRun bytes long is copied through a buffer of gathered bytes, which costs less than a mapping of the file each.
const (
	smallRun = 64 << 10
	gathered = 1 << 20
)

// copyPages copies pages of a process into a FOAM file.
func copyPages(f *foam.File, pages foam.Extents, pid int, moved func(bytes int64)) error {
	var small, large []image.Extent
	for _, e := range f.Runs(pages, chunk) {
		if e.End-e.Start <= smallRun {
			small = append(small, e)
		} else {
			large = append(large, e)
		}
	}
	if err := copySmall(f, small, pid, moved); err != nil {
		return err
	}
	return parallel.Each(large, func(e image.Extent) error {
		mem, err := f.Map(e)
		if err != nil {
			return err
		}
		defer f.Unmap(mem)
		if err := readPages(pid, e.Start, mem); err != nil {
			return err
		}
		moved(int64(len(mem)))
		return nil
	})
}

// copySmall copies many small runs of pages.
func copySmall(f *foam.File, runs []image.Extent, pid int, moved func(bytes int64)) error {
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
				if err := readPages(pid, e.Start, part); err != nil {
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

// Compare looks for every page of a frozen process that Dump has copied again, and compares it with what the process's FOAM holds.
func (c *Capture) Compare(p *image.Process) error {
	_, own, err := findPages(p, p.PID, known{}, c.inFreeze(p))
	if err != nil {
		return err
	}
	if missed := foam.Merged(own.all...).Minus(p.Memory.FOAM.Extents); len(missed) > 0 {
		return fmt.Errorf("pid %d: the page at %#x has no copy in %s: it was missed, which is a bug in kup", p.PID, missed[0].Start, p.Memory.FOAM.Name)
	}
	return c.compare(p, p.PID, p.Memory.FOAM.Extents)
}

// compare compares pages, as they are in the address space of pid, with what the FOAM of a process holds.
func (c *Capture) compare(p *image.Process, pid int, pages foam.Extents) error {
	f, err := c.file(p.PID)
	if err != nil {
		return err
	}
	if f == nil || !f.InFrames() {
		// What it finds is what a restore will find.
		if f, err = foam.Open(c.Path(p.Memory.FOAM.Name), p.Memory.FOAM); err != nil {
			return err
		}
		defer f.Close()
	}
	return parallel.Each(f.Runs(pages, chunk), func(e image.Extent) error {
		stored, err := f.Map(e)
		if err != nil {
			return err
		}
		defer f.Unmap(stored)
		now := make([]byte, len(stored))
		if err := readPages(pid, e.Start, now); err != nil {
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

// readPages reads memory of a process: pages that it may not read itself only come through /proc/PID/mem.
func readPages(pid int, addr uint64, buf []byte) error {
	if err := kernel.ReadMemory(pid, addr, buf); err == nil {
		return nil
	}
	return kernel.PeekMemory(pid, addr, buf)
}
