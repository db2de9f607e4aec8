package kernel

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Flags and features of userfaultfd(2), include/uapi/linux/userfaultfd.h.
const (
	UffdUserModeOnly        = 1
	UffdFeatureEventFork    = 1 << 1  // needs CAP_SYS_PTRACE
	UffdFeatureEventRemap   = 1 << 2  // since v4.11, as the next two
	UffdFeatureEventRemove  = 1 << 3  // MADV_DONTNEED, MADV_FREE
	UffdFeatureEventUnmap   = 1 << 6  // munmap(2), and what mmap(2) and mremap(2) replace
	UffdFeatureWPAsync      = 1 << 15 // since v6.7
	UffdRegisterModeMissing = 1 << 0
	UffdRegisterModeWP      = 1 << 1

	uffdioAPI             = 0xc018aa3f
	uffdioRegister        = 0xc020aa00
	uffdioWake            = 0x8010aa02
	uffdioCopy            = 0xc028aa03
	uffdioZeropage        = 0xc020aa04
	uffdAPIVersion uint64 = 0xaa
)

// Events of a userfaultfd.
const (
	UffdEventPagefault = 0x12
	UffdEventFork      = 0x13
	UffdEventRemap     = 0x14
	UffdEventRemove    = 0x15
	UffdEventUnmap     = 0x16
)

// UffdPagefaultWrite is a flag of a page fault: it was a write.
const UffdPagefaultWrite = 1 << 0

// UffdMessage is struct uffd_msg. What the arguments are depends on the event:
//
//	Pagefault  flags, address
//	Fork       the new descriptor, for the child
//	Remap      old address, new address, length
//	Remove     start, end
//	Unmap      start, end
type UffdMessage struct {
	Event uint8
	_     [7]byte
	Args  [3]uint64
}

// OpenUffd opens a userfaultfd for our own address space, O_NONBLOCK.
func OpenUffd() (int, error) {
	fd, _, e := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK, 0, 0)
	if e != 0 {
		return -1, fmt.Errorf("userfaultfd: %w", e)
	}
	return int(fd), nil
}

// UffdEnable makes the handshake on a userfaultfd. EINVAL if the kernel lacks a feature.
func UffdEnable(fd int, features uint64) error {
	api := struct{ api, features, ioctls uint64 }{uffdAPIVersion, features, 0}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uffdioAPI, uintptr(unsafe.Pointer(&api))); e != 0 {
		return fmt.Errorf("UFFDIO_API: %w", e)
	}
	return nil
}

// UffdRegister puts the addresses [start, end) of the descriptor's process under its watch.
func UffdRegister(fd int, start, end, mode uint64) error {
	r := struct{ start, length, mode, ioctls uint64 }{start, end - start, mode, 0}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uffdioRegister, uintptr(unsafe.Pointer(&r))); e != 0 {
		return fmt.Errorf("UFFDIO_REGISTER %#x-%#x: %w", start, end, e)
	}
	return nil
}

// UffdRead reads what waits on a userfaultfd. If that is nothing, a descriptor with O_NONBLOCK gives EAGAIN. Events go on in the
// process as soon as they are read; faults stay until they are served.
func UffdRead(fd int, messages []UffdMessage) (int, error) {
	size := unsafe.Sizeof(UffdMessage{})
	for {
		n, _, e := unix.Syscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(messages))), uintptr(len(messages))*size)
		switch e {
		case 0:
			return int(n / size), nil
		case unix.EINTR:
			continue
		default:
			return 0, e
		}
	}
}

// UffdCopy puts copies of src, whole pages of our own memory, into missing pages from dst on, and wakes whoever waits for them. It returns how many
// bytes were copied; if not all, the error says why: EAGAIN, events are to be read first, or nothing but that the rest was not reached; EEXIST, the
// first page is there; ENOENT, no such mapping is watched; ESRCH, the process has ended; EFAULT, src cannot be read.
func UffdCopy(fd int, dst uint64, src []byte) (uint64, error) {
	c := struct {
		dst        uint64
		src        *byte // no number: a goroutine's stack moves when it grows
		size, mode uint64
		copied     int64
	}{dst, &src[0], uint64(len(src)), 0, 0}
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uffdioCopy, uintptr(unsafe.Pointer(&c)))
	return uffdResult(c.copied, e)
}

// UffdZero puts zero pages into missing ones, as UffdCopy does with contents.
func UffdZero(fd int, dst, size uint64) (uint64, error) {
	z := struct {
		dst, size, mode uint64
		zeroed          int64
	}{dst, size, 0, 0}
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uffdioZeropage, uintptr(unsafe.Pointer(&z)))
	return uffdResult(z.zeroed, e)
}

// UffdChanging tells whether the address space is being changed, or was changed in a way that has not been read yet: then the kernel copies nothing
// (fs/userfaultfd.c, mmap_changing, which it looks at before the address, which here is never a good one).
func UffdChanging(fd int) bool {
	_, err := UffdZero(fd, 0, PageSize)
	return err == unix.EAGAIN
}

// uffdResult tells progress from an error number, which the kernel may store in the same field.
func uffdResult(done int64, e unix.Errno) (uint64, error) {
	if e == 0 {
		return uint64(done), nil
	}
	return uint64(max(done, 0)), e
}

// UffdWake lets those try again who wait for a page in [start, start+size).
func UffdWake(fd int, start, size uint64) error {
	r := struct{ start, size uint64 }{start, size}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uffdioWake, uintptr(unsafe.Pointer(&r))); e != 0 {
		return fmt.Errorf("UFFDIO_WAKE %#x: %w", start, e)
	}
	return nil
}

// PollFD is one descriptor for Poll.
type PollFD = unix.PollFd

// Poll waits until something is the matter with one of the descriptors, see poll(2). There is no time limit.
func Poll(fds []PollFD) error {
	return ignoringEINTR(func() error { _, err := unix.Poll(fds, -1); return err })
}

// PollFor is Poll for so many milliseconds at most.
func PollFor(fds []PollFD, milliseconds int) error {
	return ignoringEINTR(func() error { _, err := unix.Poll(fds, milliseconds); return err })
}

// Pause keeps the thread, which a goroutine is locked to, from running for a while, ns.
func Pause(ns int64) {
	t := unix.NsecToTimespec(ns)
	unix.Nanosleep(&t, nil) // a signal makes it shorter, which does no harm
}

// KeepOnExec clears FD_CLOEXEC.
func KeepOnExec(fd int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
	return err
}

// PopulateWrite makes the pages of a mapping of ours as if they were written to, see madvise(2), MADV_POPULATE_WRITE, since v5.14. EFAULT: there is no room
// for one.
func PopulateWrite(mem []byte) error {
	const madvPopulateWrite = 23
	return unix.Madvise(mem, madvPopulateWrite)
}

// Forget takes the pages of a mapping of ours out of its page tables, MADV_DONTNEED. Those of a file stay where they are.
func Forget(mem []byte) error { return unix.Madvise(mem, unix.MADV_DONTNEED) }
