package object

import (
	"fmt"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/refuse"
)

// device handles character devices that keep nothing per open file. They are told by number, not by name: a chroot may have
// its own /dev/null.
var device = &Handler{
	Kind:    image.KindDevice,
	Claims:  func(d *Descriptor) bool { return d.fileType() == kernel.ModeCharDevice && stateless(d.Stat.Rdev) },
	Check:   checkDevice,
	Capture: captureDevice,
	Rebuild: rebuildDevice,
}

// Device numbers, Documentation/admin-guide/devices.txt.
const (
	majorMem     = 1
	majorTTY     = 4 // consoles 0-63, serial ports from 64
	majorTTYAlt  = 5
	minorNull    = 3
	minorZero    = 5
	minorFull    = 7
	minorRandom  = 8
	minorURandom = 9
	minorKmsg    = 11
	minorConsole = 1  // of majorTTYAlt
	minorSerial  = 64 // of majorTTY
)

func stateless(rdev uint64) bool {
	switch major, minor := kernel.MajorMinor(rdev); major {
	case majorMem:
		switch minor {
		case minorNull, minorZero, minorFull, minorRandom, minorURandom, minorKmsg:
			return true
		}
	case majorTTY:
		return minor >= minorSerial
	case majorTTYAlt:
		return minor == minorConsole
	}
	return false
}

func checkDevice(_ *Capture, d *Descriptor) error {
	if major, minor := kernel.MajorMinor(d.Stat.Rdev); major == majorMem && minor == minorKmsg && d.readable() {
		return refuse.Errorf("%s reads the kernel's log (%s), and its place in it cannot be restored; close it or stop the application", d, d.Link)
	}
	named, err := kernel.StatPath(d.Link)
	if err != nil || named.Rdev != d.Stat.Rdev {
		if !d.still() {
			return fmt.Errorf("%s: %s has just been closed", d, d.Link)
		}
		return refuse.Errorf("%s is the device %s, which kup does not find by that path; stop the application", d, d.Link)
	}
	return nil
}

func captureDevice(_ *Capture, d *Descriptor, f *image.OpenFile) error {
	f.Device = &image.Device{Path: d.Link}
	f.Device.Major, f.Device.Minor = kernel.MajorMinor(d.Stat.Rdev)
	return nil
}

func rebuildDevice(_ *Rebuild, f *image.OpenFile) (int, error) {
	dev := f.Device
	// A serial line could wait for its carrier, and must not become kup's terminal.
	fd, err := kernel.Open(dev.Path, int(f.Flags)&openFlags|kernel.ONoCTTY|kernel.ONonblock, 0)
	if err != nil {
		return -1, err
	}
	s, err := kernel.StatFD(fd)
	if err != nil {
		kernel.Close(fd)
		return -1, fmt.Errorf("%s: %w", dev.Path, err)
	}
	major, minor := kernel.MajorMinor(s.Rdev)
	if s.Mode&kernel.ModeType != kernel.ModeCharDevice || major != dev.Major || minor != dev.Minor {
		kernel.Close(fd)
		return -1, refuse.Errorf("%s is not the character device %d:%d that it was at the checkpoint; put it back", dev.Path, dev.Major, dev.Minor)
	}
	return fd, nil
}
