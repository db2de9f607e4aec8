package memory

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/parallel"
)

// ErrDiffers says that memory which has come from the last kernel in page frames is not what it was there.
var ErrDiffers = errors.New("memory is not what it was before the kernel changed")

// Hash notes in the FOAM of a frozen process what each page is that goes to the next kernel in its page frame, or in another one.
func (c *Capture) Hash(p *image.Process) error {
	return hash(&p.Memory.FOAM, processPages(p.PID))
}

// HashShared is Hash for shared memories.
func (c *Capture) HashShared() error {
	for _, src := range c.shared {
		m := &c.State.Memories[src.index]
		if err := hash(&m.FOAM, sharedPages(m, src.file)); err != nil {
			return fmt.Errorf("shared memory %d: %w", m.ID, err)
		}
	}
	return nil
}

func hash(f *image.FOAM, read pageReader) (err error) {
	if f.Physical {
		f.Hashes, err = hashes(f.Extents, read)
	}
	return err
}

// verify compares pages that were brought back with the hashes that they had, if there are any.
func verify(f *image.FOAM, read pageReader) error {
	if len(f.Hashes) == 0 {
		return nil
	}
	now, err := hashes(f.Extents, read)
	if err != nil || bytes.Equal(now, f.Hashes) {
		return err
	}
	return difference(f, now)
}

// difference is an error that says which pages have other hashes now.
func difference(f *image.FOAM, now []byte) error {
	var different, pages, first uint64
	for _, e := range f.Extents {
		for at := e.Start; at < e.End; at += kernel.PageSize {
			place := pages * image.HashSize
			pages++
			if bytes.Equal(now[place:][:image.HashSize], f.Hashes[place:][:image.HashSize]) {
				continue
			}
			if different++; different == 1 {
				first = at
			}
		}
	}
	offset, _ := f.Offset(first)
	return fmt.Errorf("%w: %d of %d pages; the first is the one at %#x, which was in page frame %#x", ErrDiffers, different, pages, first, offset/kernel.PageSize)
}

// pageReader reads runs of pages, one into each part. Several goroutines may use it at once.
type pageReader func(runs foam.Batch, parts [][]byte) error

// processPages reads pages of a process that does not run, each from the frame that it is in and will be in.
func processPages(pid int) pageReader {
	return func(runs foam.Batch, parts [][]byte) error {
		if err := readPeeked(pid, runs, parts); err != nil {
			return fmt.Errorf("pid %d: %w", pid, err)
		}
		return nil
	}
}

// sharedPages reads pages of a shared memory. The last one may go beyond its end.
func sharedPages(m *image.SharedMem, f *os.File) pageReader {
	return func(runs foam.Batch, parts [][]byte) error {
		for i, e := range runs {
			if err := readShared(parts[i], f, m, e); err != nil {
				return err
			}
		}
		return nil
	}
}

// hashes returns the hashes of pages, by image.HashPages.
func hashes(pages foam.Extents, read pageReader) ([]byte, error) {
	all := make([]byte, pages.Total()/kernel.PageSize*image.HashSize)
	err := parallel.Each(portions(pages), func(p portion) error {
		mem := make([]byte, p.runs.Total())
		if err := read(foam.Batch(p.runs), cut(mem, p.runs)); err != nil {
			return err
		}
		image.HashPages(all[p.first*image.HashSize:], mem)
		return nil
	})
	return all, err
}

// portion is so many runs of pages, and how many pages come before them.
type portion struct {
	runs  foam.Extents
	first uint64
}

// portionSize is how much is hashed at a time, bytes: it stays in a processor's own cache.
const portionSize = 512 << 10

func portions(pages foam.Extents) (all []portion) {
	done, room := uint64(0), uint64(0)
	for _, e := range pages {
		for e.Start < e.End {
			if room == 0 {
				all, room = append(all, portion{first: done / kernel.PageSize}), portionSize
			}
			size := min(room, e.End-e.Start)
			last := &all[len(all)-1]
			last.runs = append(last.runs, image.Extent{Start: e.Start, End: e.Start + size})
			e.Start, done, room = e.Start+size, done+size, room-size
		}
	}
	return all
}

// cut divides mem into a part for each run.
func cut(mem []byte, runs foam.Extents) (parts [][]byte) {
	for _, e := range runs {
		size := e.End - e.Start
		parts = append(parts, mem[:size:size])
		mem = mem[size:]
	}
	return parts
}
