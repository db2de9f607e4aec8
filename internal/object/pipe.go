package object

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/refuse"
)

// pipe handles pipes and FIFOs. What is in a pipe is copied with tee(2), which leaves it there. An end that nobody has is not
// made again, so that the other end sees it closed.
var pipe = &Handler{
	Kind: image.KindPipe,
	Claims: func(d *Descriptor) bool {
		return d.fileType() == kernel.ModeFIFO && d.flags()&kernel.OPath == 0
	},
	Check:   checkPipe,
	Capture: capturePipe,
	Settle:  settlePipes,
	Rebuild: rebuildPipe,
}

// isFIFO tells a FIFO, which has a name, from a pipe.
func isFIFO(d *Descriptor) bool { return d.Link[0] == '/' }

func checkPipe(c *Capture, d *Descriptor) error {
	if isFIFO(d) {
		named, err := kernel.StatPath(d.Link)
		if err != nil || !sameFile(&named, &d.Stat) {
			if !d.still() {
				return fmt.Errorf("%s: %s: %w", d, d.Link, fs.ErrNotExist)
			}
			return refuse.Errorf("%s is the FIFO %s, which cannot be found by that name any more; stop the application", d, d.Link)
		}
	}
	if !c.running {
		return nil
	}
	return c.refuseOutsiders(d)
}

// refuseOutsiders refuses a pipe that a process outside has an end of.
func (c *Capture) refuseOutsiders(d *Descriptor) error {
	others, err := c.outsiders(d.Link)
	if err != nil || len(others) == 0 {
		return err
	}
	what := "pipe"
	if isFIFO(d) {
		what = "FIFO"
	}
	return refuse.Errorf("%s is the %s %s, whose other end (or the same one) is held by %s, which is not part of the application; redirect it to a file, or start the application with kup run --detach", d, what, d.Link, others[0])
}

// pipeEnds are the descriptions of one pipe.
type pipeEnds struct {
	pipe   *image.Pipe
	any    *Descriptor
	reader *Descriptor // one that can read, nil if nobody can
	writer *Descriptor
}

func capturePipe(c *Capture, d *Descriptor, f *image.OpenFile) error {
	key := inode{d.Stat.Dev, d.Stat.Ino}
	e, known := c.pipes[key]
	if !known {
		size, err := kernel.PipeSize(d.File)
		if err != nil {
			return fmt.Errorf("%s: F_GETPIPE_SZ: %w", d, err)
		}
		e = &pipeEnds{any: d, pipe: &image.Pipe{
			ID: len(c.pipes) + 1, Size: size, Mode: d.Stat.Mode, UID: d.Stat.Uid, GID: d.Stat.Gid,
		}}
		if isFIFO(d) {
			e.pipe.Path = d.Link
		}
		if c.pipes == nil {
			c.pipes = map[inode]*pipeEnds{}
		}
		c.pipes[key] = e
	}
	if d.readable() {
		e.reader = d
	}
	if d.writable() {
		e.writer = d
	}
	f.Pipe = &image.PipeEnd{Pipe: e.pipe.ID}
	return nil
}

// settlePipes completes the pipes when all of their descriptions are known.
func settlePipes(c *Capture) error {
	ends := slices.SortedFunc(maps.Values(c.pipes), func(a, b *pipeEnds) int { return cmp.Compare(a.pipe.ID, b.pipe.ID) })
	for _, e := range ends {
		if e.reader == nil || e.writer == nil {
			// Nobody else, or somebody outside? This must be known even if it was so when the application still ran.
			if err := c.refuseOutsiders(e.any); err != nil {
				return err
			}
		}
		if err := e.copyData(); err != nil {
			return err
		}
		c.State.Pipes = append(c.State.Pipes, *e.pipe)
	}
	for _, one := range c.captured {
		if one.file.Kind != image.KindPipe {
			continue
		}
		e := c.pipes[inode{one.d.Stat.Dev, one.d.Stat.Ino}]
		if e.writer == nil && isFIFO(one.d) {
			hungUp, err := kernel.HungUp(one.d.File)
			if err != nil {
				return fmt.Errorf("%s: poll: %w", one.d, err)
			}
			one.file.Pipe.Waiting = !hungUp
		}
	}
	return nil
}

// copyData reads what is in a pipe, without taking it out.
func (e *pipeEnds) copyData() error {
	from := e.any
	fd := from.File
	if e.reader != nil {
		from, fd = e.reader, e.reader.File
	} else {
		var err error
		if fd, err = reopen(fd, kernel.ORdOnly|kernel.ONonblock); err != nil {
			return fmt.Errorf("%s: %w", from, err)
		}
		defer kernel.Close(fd)
	}
	if n, err := kernel.Unread(fd); err == nil && n == 0 {
		return nil // nearly all pipes, nearly always
	}
	read, write, err := kernel.Pipe()
	if err != nil {
		return err
	}
	defer kernel.Close(read)
	defer kernel.Close(write)
	if err := kernel.SetPipeSize(write, e.pipe.Size); err != nil {
		return fmt.Errorf("%s: a pipe of %d bytes to copy its contents to: %w", from, e.pipe.Size, err)
	}
	switch _, err = kernel.Tee(fd, write, e.pipe.Size); {
	case errors.Is(err, kernel.EAGAIN):
		return nil
	case err != nil:
		return refuse.Errorf("%s: the contents of the pipe %s cannot be copied (%w); wait until it is empty or stop the application", from, from.Link, err)
	}
	if err := kernel.SetFileFlags(read, kernel.ONonblock); err != nil {
		return err
	}
	return e.readCopy(read)
}

// readCopy reads the copy. A read ends at the end of a packet; so several reads, or O_DIRECT at the writing end, mean packets.
func (e *pipeEnds) readCopy(fd int) error {
	buf := make([]byte, e.pipe.Size)
	for {
		n, err := kernel.Read(fd, buf)
		if n == 0 || errors.Is(err, kernel.EAGAIN) {
			break
		}
		if err != nil {
			return fmt.Errorf("%s: %w", e.any, err)
		}
		e.pipe.Data = append(e.pipe.Data, slices.Clone(buf[:n]))
	}
	e.pipe.Packet = len(e.pipe.Data) > 1 || e.writer != nil && e.writer.flags()&kernel.ODirect != 0
	return nil
}
