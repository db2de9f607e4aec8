package object

import (
	"errors"
	"fmt"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/refuse"
)

// builtPipe is a pipe made again: kup's two ends, kept until all is connected. The description behind each end of an unnamed pipe is given
// out once; all others are opened from them.
type builtPipe struct {
	read, write           int
	readGiven, writeGiven bool
	silent                bool // a FIFO that must stay without a writer: nothing was opened
}

func rebuildPipe(r *Rebuild, f *image.OpenFile) (int, error) {
	p, err := r.pipeByID(f.Pipe.Pipe)
	if err != nil {
		return -1, err
	}
	b, built := r.pipes[p.ID]
	if !built {
		if b, err = r.buildPipe(p, f); err != nil {
			return -1, err
		}
		r.pipes[p.ID] = b
	}
	mode := int(f.Flags) & kernel.OAccMode
	switch {
	case b.silent:
		return kernel.Open(p.Path, mode|kernel.ONonblock, 0)
	case mode == kernel.ORdOnly && !b.readGiven:
		b.readGiven = true
		return kernel.Dup(b.read)
	case mode == kernel.OWrOnly && !b.writeGiven:
		b.writeGiven = true
		return kernel.Dup(b.write)
	}
	return reopen(b.read, mode|kernel.ONonblock)
}

func (r *Rebuild) pipeByID(id int) (*image.Pipe, error) {
	for i := range r.State.Pipes {
		if r.State.Pipes[i].ID == id {
			return &r.State.Pipes[i], nil
		}
	}
	return nil, fmt.Errorf("its pipe %d is not in the image", id)
}

// buildPipe makes a pipe with its contents. first is one of its descriptions.
func (r *Rebuild) buildPipe(p *image.Pipe, first *image.OpenFile) (*builtPipe, error) {
	b := &builtPipe{}
	if p.Path != "" {
		if err := findFIFO(p); err != nil {
			return nil, err
		}
		if first.Pipe.Waiting && len(p.Data) == 0 {
			b.silent = true
			return b, nil
		}
	}
	if err := r.openEnds(b, p); err != nil {
		return nil, err
	}
	if err := kernel.SetPipeSize(b.write, p.Size); err != nil {
		return nil, fmt.Errorf("pipe of %d bytes (see /proc/sys/fs/pipe-max-size): %w", p.Size, err)
	}
	return b, fillPipe(b.write, p)
}

// openEnds opens both ends so that nothing waits for anybody.
func (r *Rebuild) openEnds(b *builtPipe, p *image.Pipe) (err error) {
	if p.Path == "" {
		if b.read, b.write, err = kernel.Pipe(); err != nil {
			return err
		}
		r.keep(b.read)
		r.keep(b.write)
		if p.UID == 0 && p.GID == 0 {
			return nil
		}
		return kernel.ChangeOwner(b.read, p.UID, p.GID) // decides who may open it through /proc/PID/fd
	}
	both, err := kernel.Open(p.Path, kernel.ORdWr|kernel.ONonblock, 0)
	if err != nil {
		return err
	}
	r.keep(both)
	b.read, b.write = both, both
	b.readGiven, b.writeGiven = true, true
	return nil
}

// findFIFO makes sure that a FIFO is there. One in a file system that did not outlive a boot is made again.
func findFIFO(p *image.Pipe) error {
	s, err := kernel.StatPath(p.Path)
	switch {
	case errors.Is(err, kernel.ENOENT):
		if err := kernel.MakeFIFO(p.Path, p.Mode); err != nil {
			return fmt.Errorf("the FIFO %s: %w", p.Path, err)
		}
		return kernel.ChangePathOwner(p.Path, p.UID, p.GID)
	case err != nil:
		return fmt.Errorf("the FIFO %s: %w", p.Path, err)
	case s.Mode&kernel.ModeType != kernel.ModeFIFO:
		return refuse.Errorf("%s was a FIFO at the checkpoint and is something else now; remove it", p.Path)
	}
	return nil
}

// fillPipe writes what was in the pipe: packets one by one, with O_DIRECT.
func fillPipe(fd int, p *image.Pipe) error {
	if len(p.Data) == 0 {
		return nil
	}
	before, err := kernel.FileFlags(fd)
	if err != nil {
		return err
	}
	flags := before&^kernel.ODirect | kernel.ONonblock
	if p.Packet {
		flags |= kernel.ODirect
	}
	if err := kernel.SetFileFlags(fd, flags); err != nil {
		return err
	}
	for _, data := range p.Data {
		n, err := kernel.Write(fd, data)
		if err == nil && n < len(data) {
			err = kernel.EAGAIN
		}
		if err != nil {
			return fmt.Errorf("pipe of %d bytes: its contents do not fit: %w", p.Size, err)
		}
	}
	return kernel.SetFileFlags(fd, before)
}
