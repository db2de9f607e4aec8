package kernel

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Flags and features of userfaultfd(2), include/uapi/linux/userfaultfd.h.
const (
	UffdUserModeOnly          = 1
	UffdFeatureWPAsync        = 1 << 15 // since v6.7
	UffdRegisterModeWP        = 1 << 1
	uffdioAPI                 = 0xc018aa3f
	uffdioRegister            = 0xc020aa00
	uffdAPIVersion     uint64 = 0xaa
)

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
