package object

import (
	"fmt"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// signalfd handles signalfd(2). It reads the signals of whoever reads it; so the mask is all it has.
var signalfd = &Handler{
	Kind:    image.KindSignalFD,
	Claims:  func(d *Descriptor) bool { return d.Link == "anon_inode:[signalfd]" },
	Check:   checkAlone,
	Capture: captureSignalFD,
	Rebuild: rebuildSignalFD,
}

func captureSignalFD(_ *Capture, d *Descriptor, f *image.OpenFile) error {
	f.Signal = &image.SignalFD{}
	return d.value("sigmask", "%x", &f.Signal.Mask)
}

func rebuildSignalFD(_ *Rebuild, f *image.OpenFile) (int, error) {
	fd, err := kernel.SignalFD(f.Signal.Mask)
	if err != nil {
		return -1, fmt.Errorf("signalfd with mask %#x: %w", f.Signal.Mask, err)
	}
	return fd, nil
}
