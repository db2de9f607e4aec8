package memory

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"sync/atomic"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/parallel"
	"github.com/kup-project/kup/internal/procfs"
)

// Moved is told of bytes as they are copied, by several goroutines. Its error ends the copying.
type Moved func(bytes int64) error

// CountMoved returns a Moved that tells the sum, until ctx ends.
func CountMoved(ctx context.Context, tell func(done int64)) Moved {
	var done atomic.Int64
	return func(n int64) error {
		tell(done.Add(n))
		return context.Cause(ctx)
	}
}

// Left is how many bytes of a process Dump will copy, or after FindHeld DumpHeld.
func (c *Capture) Left(p *image.Process) int64 {
	n := c.left[p.PID].Total()
	if f := c.second[p.PID]; f != nil {
		n += f.left.Total()
	}
	return int64(n)
}

// InFrames is how many bytes of a process's memory Dump does not copy, because they stay where they are.
func (c *Capture) InFrames(p *image.Process) int64 {
	if c.InPlace == nil {
		return 0
	}
	return p.Memory.FOAM.Stored() - int64(c.left[p.PID].Total())
}

// Dump copies the pages of a process that FindPages found into its FOAM file, without those that pre-copy has brought there.
func (c *Capture) Dump(p *image.Process, moved Moved) error {
	f, err := c.file(p.PID)
	if err == nil && f == nil {
		f, err = c.create(p.PID, p.Memory.FOAM.Windows)
	}
	if err != nil {
		return err
	}
	if err := c.copyLeft(f, p.PID, moved); err != nil {
		return err
	}
	return c.dumpFallback(p.PID, moved)
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
	return f.Keep(f.Batches(foam.Merged(own.all...), chunk), chunk)
}

// copyLeft copies what is left of a process into its FOAM. Where Survey has seen that nobody shares anything, the freeze need not look: that would take a tenth as long
// as the copy.
func (c *Capture) copyLeft(f *foam.File, pid int, moved Moved) error {
	own := c.left[pid].Intersect(c.alone[pid])
	if err := copyBy(readPinned, f, own, pid, moved); err != nil {
		return err
	}
	return copyPages(f, c.left[pid].Minus(own), pid, moved)
}

// copyPages copies pages of a process into a FOAM file.
func copyPages(f *foam.File, pages foam.Extents, pid int, moved Moved) error {
	return copyBy(readRuns, f, pages, pid, moved)
}

func copyBy(read func(pid int, runs foam.Batch, parts [][]byte) error, f *foam.File, pages foam.Extents, pid int, moved Moved) error {
	return parallel.Each(f.Batches(pages, chunk), func(b foam.Batch) error {
		to, err := f.View(b)
		if err != nil {
			return err
		}
		defer to.Close()
		if err := read(pid, b, to.Parts); err != nil {
			return cmp.Or(reserve(f, b), err) // if the file system is full, that is why
		}
		return moved(int64(foam.Extents(b).Total()))
	})
}

func reserve(f *foam.File, b foam.Batch) error {
	for _, e := range b {
		if err := f.Reserve(e); err != nil {
			return err
		}
	}
	return nil
}

func ranges(b foam.Batch) []kernel.MemoryRange {
	all := make([]kernel.MemoryRange, len(b))
	for i, e := range b {
		all[i] = kernel.MemoryRange(e)
	}
	return all
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
	copied := foam.Extents(p.Memory.FOAM.Extents)
	if c.InPlace != nil {
		copied = c.left[p.PID] // the others are where they were
	}
	return c.compare(p, p.PID, copied)
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
	return parallel.Each(f.Batches(pages, chunk), func(b foam.Batch) error {
		stored, err := f.View(b)
		if err != nil {
			return err
		}
		defer stored.Close()
		now := cut(make([]byte, foam.Extents(b).Total()), foam.Extents(b))
		if err := readRuns(pid, b, now); err != nil {
			return err
		}
		for i, e := range b {
			if at, same := firstDifference(now[i], stored.Parts[i]); !same {
				return fmt.Errorf("pid %d: the page at %#x differs from its copy in %s: a write was missed, which is a bug in kup", p.PID, e.Start+at, p.Memory.FOAM.Name)
			}
		}
		return nil
	})
}

// firstDifference returns where the first page begins that is not the same in both.
func firstDifference(a, b []byte) (at uint64, same bool) {
	for at := 0; at < len(a); at += kernel.PageSize {
		if !bytes.Equal(a[at:at+kernel.PageSize], b[at:at+kernel.PageSize]) {
			return uint64(at), false
		}
	}
	return 0, true
}

// readPages reads memory of a process: pages that it may not read itself only come through /proc/PID/mem.
func readPages(pid int, addr uint64, buf []byte) error {
	if err := kernel.ReadMemory(pid, addr, buf); err == nil {
		return nil
	}
	return kernel.PeekMemory(pid, addr, buf)
}
