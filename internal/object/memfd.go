package object

import (
	"fmt"
	"strings"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// memfd handles descriptors of memfd_create(2). The memory itself belongs to package memory.
var memfd = &Handler{
	Kind:    image.KindMemfd,
	Claims:  isMemfd,
	Capture: captureMemfd,
	Rebuild: rebuildMemfd,
}

func isMemfd(d *Descriptor) bool {
	return strings.HasPrefix(d.Link, "/memfd:") && strings.HasSuffix(d.Link, deletedMark) && d.Stat.Nlink == 0
}

func captureMemfd(c *Capture, d *Descriptor, f *image.OpenFile) error {
	id, err := c.SharedMemory(d.File, d.Link)
	if err != nil {
		return fmt.Errorf("%s: %w", d, err)
	}
	f.Memfd = &image.Memfd{Memory: id, Offset: d.Info.Pos}
	return nil
}

func rebuildMemfd(r *Rebuild, f *image.OpenFile) (int, error) {
	memory, ok := r.SharedMemory[f.Memfd.Memory]
	if !ok {
		return -1, fmt.Errorf("its memory %d is not in the image", f.Memfd.Memory)
	}
	fd, err := reopen(memory, int(f.Flags)&openFlags)
	if err != nil {
		return -1, err
	}
	if err := kernel.Seek(fd, f.Memfd.Offset); err != nil {
		kernel.Close(fd)
		return -1, fmt.Errorf("seek to %d: %w", f.Memfd.Offset, err)
	}
	return fd, nil
}
