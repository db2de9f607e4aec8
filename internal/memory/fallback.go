package memory

import (
	"os"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
)

// fallback is a file with the memory of one process, beside page frames that may not reach the next kernel. Pre-copy fills most of it; without pre-copy, all is
// copied in the freeze.
type fallback struct {
	file *foam.File
	own  bool         // it is not pre-copy's
	left foam.Extents // what Dump has to copy
}

// planFallback lays the file out, and notes which pages are left to be copied into it.
func (c *Capture) planFallback(p *image.Process, stored []image.Extent, own ownPages) error {
	f := &fallback{left: foam.Merged(own.all...)}
	if precopy := c.Precopies[p.PID]; precopy != nil {
		f.file, f.left = precopy.file, precopy.remaining(own)
	} else {
		var err error
		if f.file, err = foam.Create(c.Path(foamName(p.PID)), nil); err != nil {
			return err
		}
		f.own = true
	}
	if c.second == nil {
		c.second = map[int]*fallback{}
	}
	c.second[p.PID] = f
	if err := f.file.Grow(stored, own.all); err != nil {
		return err
	}
	described := f.file.Describe(foam.Merged(own.all...))
	p.Memory.Fallback = &described
	return nil
}

// dumpFallback copies what is left for the fallback of a process, if it has one.
func (c *Capture) dumpFallback(pid int, moved Moved) error {
	f := c.second[pid]
	if f == nil {
		return nil
	}
	return copyPages(f.file, f.left, pid, moved)
}

func (f *fallback) close() {
	if f.own {
		f.file.Close()
	}
}

// sharedFallback copies the contents of a shared memory into a file, and describes that.
func (c *Capture) sharedFallback(m *image.SharedMem, from *os.File, moved Moved) (*image.FOAM, error) {
	file, err := foam.Create(c.Path(sharedName(m.ID)), foam.Single(m.Size))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	desc := file.Describe(m.FOAM.Extents)
	return &desc, copyShared(m, from, file, moved)
}
