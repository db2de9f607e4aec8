package memory

import (
	"fmt"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/procfs"
)

// forked reports whether a fork copies a mapping's own pages for good. It does not after MADV_DONTFORK and MADV_WIPEONFORK, and when a process
// writes to a huge page of its own, and the pool has no other, the kernel takes the page from the copy (mm/hugetlb.c, unmap_ref_private).
func forked(v *image.VMA) bool {
	return v.Kind != image.VMAHugeTLB && !hasFlag(*v, "dc") && !hasFlag(*v, "wf")
}

// FindHeld finds the pages that a process had when it was frozen in its holder, and extends its FOAM for them. The process may be running.
func (c *Capture) FindHeld(p *image.Process) error {
	holder := c.Holders[p.PID]
	if err := checkHeld(p, holder); err != nil {
		return err
	}
	stored, own, err := findPages(p, holder, known{}, forked)
	if err != nil {
		return fmt.Errorf("the copy of its memory, pid %d: %w", holder, err)
	}
	f := c.open[p.PID]
	if err := f.Grow(stored, own.all); err != nil {
		return err
	}
	pages := foam.Merged(own.all...)
	c.left[p.PID] = pages
	p.Memory.FOAM.Windows = f.Windows()
	p.Memory.FOAM.Extents = foam.Extents(p.Memory.FOAM.Extents).Add(pages...)
	return nil
}

// checkHeld makes sure that the fork has copied what it was expected to: Survey, a moment before, may not have seen the last madvise(2).
func checkHeld(p *image.Process, holder int) error {
	maps, err := procfs.ReadSMaps(holder)
	if err != nil && !procfs.Gone(err) {
		return err
	}
	// Of a process that ends meanwhile, only the first mappings may have been read.
	if left, err := procfs.ReadMaps(holder); len(left) == 0 || procfs.Gone(err) {
		return fmt.Errorf("the copy of its memory, pid %d, has ended: somebody has killed it; take the checkpoint once more", holder)
	}
	copied := make(map[image.Extent]bool, len(maps))
	for i := range maps {
		copied[image.Extent{Start: maps[i].Start, End: maps[i].End}] = !maps[i].Has("wf")
	}
	for i := range p.Memory.VMAs {
		v := &p.Memory.VMAs[i]
		if hasOwnPages(v) && forked(v) && !copied[image.Extent{Start: v.Start, End: v.End}] {
			return fmt.Errorf("pid %d (%s): mapping %x-%x: just before it was frozen, it asked the kernel not to give this memory to children (madvise); "+
				"take the checkpoint once more", p.PID, p.Comm, v.Start, v.End)
		}
	}
	return nil
}

// DumpHeld copies the pages that FindHeld found.
func (c *Capture) DumpHeld(p *image.Process, moved Moved) error {
	if err := copyPages(c.open[p.PID], c.left[p.PID], c.Holders[p.PID], moved); err != nil {
		return fmt.Errorf("the copy of its memory, pid %d: %w", c.Holders[p.PID], err)
	}
	return nil
}

// CompareHeld compares every page of the holder with what DumpHeld has made of it.
func (c *Capture) CompareHeld(p *image.Process) error {
	return c.compare(p, c.Holders[p.PID], c.left[p.PID])
}
