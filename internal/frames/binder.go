package frames

import (
	"errors"
	"fmt"
	"os"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/kexec"
)

// binderDevice is made by kup's kernel module, see folder module.
const binderDevice = "/dev/kup-frames"

// ErrNoModule says that the running kernel cannot bind page frames.
var ErrNoModule = errors.New("kup's kernel module is not loaded")

// ErrBound says that page frames have become a process's, or have been freed, so that what the kernel before has left in them is not to be had any more.
var ErrBound = errors.New("the page frames have been bound or freed before")

// Binding is a run of page frames that follow each other, and where they are to appear. Bytes, whole pages of 4096.
type Binding = kernel.FramesRun

// Binder makes page frames that have come from the kernel before ordinary anonymous memory of processes. The frames lie in what this kernel was told to
// reserve (kexec.Options, Reserve). Its methods may be called by several goroutines.
type Binder struct{ device *os.File }

// OpenBinder needs CAP_SYS_ADMIN. It is ErrNoModule if the module is not there.
func OpenBinder() (*Binder, error) {
	device, err := os.OpenFile(binderDevice, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s is missing; it is loaded by kup boot after kup update --carrier frames; see kup module build", ErrNoModule, binderDevice)
	}
	if err != nil {
		return nil, err
	}
	return &Binder{device}, nil
}

// Close leaves everything as it is.
func (b *Binder) Close() error { return b.device.Close() }

// Preserve says where the frames are. The module refuses what this kernel was not told to reserve, what it knows already, and what is in use.
func (b *Binder) Preserve(rs kexec.Ranges) error {
	for _, r := range rs {
		if err := kernel.FramesPreserve(int(b.device.Fd()), r.Start, r.Size()); err != nil {
			return fmt.Errorf("memory %v, which was to outlive the change of the kernel: %w", r, err)
		}
	}
	return nil
}

// BindError says which page could not be bound. Those before it were. Unwrap gives the error number that kup_frames_uapi.h explains; whatever it is,
// the frame is as it was.
type BindError struct {
	Address uint64 // virtual
	Frame   uint64 // physical
	Binding int    // the one with the page
	Offset  uint64 // of the page in it
	Err     error
}

func (e *BindError) Error() string {
	return fmt.Sprintf("page frame %#x cannot be bound at %#x: %v", e.Frame, e.Address, e.Err)
}

func (e *BindError) Unwrap() error { return e.Err }

// Is makes it ErrBound if the frame is.
func (e *BindError) Is(target error) bool {
	return target == ErrBound && errors.Is(e.Err, kernel.EBUSY)
}

// Bind binds frames into the process of a pidfd, where it has private anonymous mappings and no pages yet. The error, for the first page that could not be
// bound, is a *BindError.
func (b *Binder) Bind(pidfd int, bindings []Binding) (pages uint64, err error) {
	return b.bind(kernel.FramesBind{FD: int32(pidfd)}, bindings)
}

// BindWatched is Bind for mappings that are watched by a userfaultfd, which stands for the process, too. Whoever waits for the pages must be woken. It binds
// nothing (EAGAIN) while there are events to be read, as is the case with UffdCopy.
func (b *Binder) BindWatched(uffd int, bindings []Binding) (pages uint64, err error) {
	return b.bind(kernel.FramesBind{FD: int32(uffd), Flags: kernel.FramesUffd}, bindings)
}

func (b *Binder) bind(how kernel.FramesBind, bindings []Binding) (pages uint64, err error) {
	pages, err = how.Do(int(b.device.Fd()), bindings)
	if err == nil || how.Run >= uint64(len(bindings)) {
		return pages, err
	}
	at, offset := bindings[how.Run], how.Page*kernel.PageSize
	return pages, &BindError{Address: at.Address + offset, Frame: at.Start + offset, Binding: int(how.Run), Offset: offset, Err: err}
}

// ReadAt reads at a physical address what the kernel before has left there. Frames that have been bound or freed give ErrBound.
func (b *Binder) ReadAt(p []byte, address int64) (n int, err error) {
	n, err = b.device.ReadAt(p, address)
	if errors.Is(err, kernel.EBUSY) {
		err = fmt.Errorf("%w: %w", ErrBound, err)
	}
	return n, err
}

// Free hands the frames in rs that are not bound to the page allocator. What they hold is lost.
func (b *Binder) Free(rs kexec.Ranges) (pages uint64, err error) {
	for _, r := range rs {
		n, err := kernel.FramesFree(int(b.device.Fd()), r.Start, r.Size())
		pages += n
		if err != nil {
			return pages, err
		}
	}
	return pages, nil
}
