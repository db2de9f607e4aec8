package kernel

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What the device of kup's kernel module understands, module/kup-frames/kup_frames_uapi.h.
const (
	framesPreserve = 0x40184bf0
	framesBind     = 0xc0304bf1
	framesFree     = 0xc0184bf2

	// FramesUffd says that FramesBind.FD is a userfaultfd instead of a pidfd.
	FramesUffd = 1
)

// FramesRun is struct kup_frames_run: page frames that follow each other, and where they go. Bytes.
type FramesRun struct {
	Address uint64 // virtual
	Start   uint64 // physical
	Length  uint64
}

// FramesBind is what is to be bound, and how far that has come: struct kup_frames_bind.
type FramesBind struct {
	FD    int32
	Flags uint32
	runs  *FramesRun // no number: a goroutine's stack moves when it grows
	count uint64
	Run   uint64 // to go on with
	Page  uint64 // in it
	Bound uint64 // pages, by the last call
}

// framesRange is struct kup_frames_range.
type framesRange struct{ start, length, freed uint64 }

// FramesPreserve tells the module that there are preserved frames in a range of physical memory, bytes. ENXIO: the boot loader has not reserved it for us;
// EEXIST: the module knows; EBUSY: some of it is in use, as far as it has looked.
func FramesPreserve(fd int, start, length uint64) error {
	r := framesRange{start: start, length: length}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), framesPreserve, uintptr(unsafe.Pointer(&r))); e != 0 {
		return fmt.Errorf("KUP_FRAMES_PRESERVE %#x, %d bytes: %w", start, length, e)
	}
	return nil
}

// Do binds runs from b.Run and b.Page on until it is through, or gives the reason why not, which is that of the page where b stands then. Signals do not
// end it.
func (b *FramesBind) Do(fd int, runs []FramesRun) (bound uint64, err error) {
	b.runs, b.count = unsafe.SliceData(runs), uint64(len(runs))
	for {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), framesBind, uintptr(unsafe.Pointer(b)))
		bound += b.Bound
		switch e {
		case 0:
			return bound, nil
		case unix.EINTR:
			continue
		}
		return bound, e
	}
}

// FramesFree hands the frames of a range that are not bound to the page allocator, and returns how many these were.
func FramesFree(fd int, start, length uint64) (pages uint64, err error) {
	r := framesRange{start: start, length: length}
	for {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), framesFree, uintptr(unsafe.Pointer(&r)))
		pages += r.freed
		switch e {
		case 0:
			return pages, nil
		case unix.EINTR:
			continue
		}
		return pages, fmt.Errorf("KUP_FRAMES_FREE %#x, %d bytes: %w", start, length, e)
	}
}
