package object

import (
	"encoding/binary"
	"fmt"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// eventfd handles eventfd(2).
//
// Kernels before 6.5 do not tell whether EFD_SEMAPHORE was given, and nothing short of reading from it would. There the
// descriptor is taken for a plain counter, which nearly all are.
var eventfd = &Handler{
	Kind:    image.KindEventFD,
	Claims:  func(d *Descriptor) bool { return d.Link == "anon_inode:[eventfd]" },
	Check:   checkAlone,
	Capture: captureEventFD,
	Rebuild: rebuildEventFD,
}

func captureEventFD(_ *Capture, d *Descriptor, f *image.OpenFile) error {
	f.Event = &image.EventFD{}
	if err := d.value("eventfd-count", "%x", &f.Event.Count); err != nil {
		return err
	}
	if semaphore, ok := d.Info.Value("eventfd-semaphore"); ok {
		f.Event.Semaphore = semaphore == "1"
	}
	return nil
}

func rebuildEventFD(_ *Rebuild, f *image.OpenFile) (int, error) {
	fd, err := kernel.EventFD(f.Event.Semaphore)
	if err != nil {
		return -1, fmt.Errorf("eventfd: %w", err)
	}
	if f.Event.Count == 0 {
		return fd, nil
	}
	if _, err := kernel.Write(fd, binary.NativeEndian.AppendUint64(nil, f.Event.Count)); err != nil {
		kernel.Close(fd)
		return -1, fmt.Errorf("eventfd: count %d: %w", f.Event.Count, err)
	}
	return fd, nil
}
