package frames

import (
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// Moved looks again, and returns the pages of each process of Scan that are not in the frames of before, by address. Nothing but the page tables is read for it.
func (v *Inventory) Moved() ([][]image.Extent, error) {
	seen, err := look(v.asked)
	if err != nil {
		return nil, err
	}
	moved := make([][]image.Extent, len(seen))
	for i := range seen {
		moved[i] = differences(v.seen[i].runs, seen[i].runs)
	}
	return moved, nil
}

// differences returns the pages that are not in the same frames in both lists, sorted by address.
func differences(before, now []seenRun) (out []image.Extent) {
	a, b := cursor{runs: before}, cursor{runs: now}
	for {
		x, y := a.head(), b.head()
		switch {
		case x.Count == 0 && y.Count == 0:
			return out
		case y.Count == 0 || x.Count > 0 && x.Addr < y.Addr:
			out = a.giveUp(out, y)
		case x.Count == 0 || y.Addr < x.Addr:
			out = b.giveUp(out, x)
		default:
			count := min(x.Count, y.Count)
			if x.Frame != y.Frame {
				out = appendExtent(out, x.Addr, x.Addr+count*kernel.PageSize)
			}
			a.skip(count)
			b.skip(count)
		}
	}
}

// cursor goes through runs page by page.
type cursor struct {
	runs []seenRun
	done uint64 // pages of the first
}

// head is what is left of the first run, a run of no pages at the end.
func (c *cursor) head() Run {
	if len(c.runs) == 0 {
		return Run{}
	}
	r := c.runs[0].Run
	return Run{Addr: r.Addr + c.done*kernel.PageSize, Frame: r.Frame + c.done, Count: r.Count - c.done}
}

// skip goes on by pages of the first run.
func (c *cursor) skip(count uint64) {
	if c.done += count; c.done == c.runs[0].Count {
		c.runs, c.done = c.runs[1:], 0
	}
}

// giveUp skips what is before other, which has no such pages, and adds it to out.
func (c *cursor) giveUp(out []image.Extent, other Run) []image.Extent {
	r := c.head()
	if other.Count > 0 {
		r.Count = min(r.Count, (other.Addr-r.Addr)/kernel.PageSize)
	}
	c.skip(r.Count)
	return appendExtent(out, r.Addr, r.Addr+r.Count*kernel.PageSize)
}
