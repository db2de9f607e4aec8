package kernel

import "golang.org/x/sys/unix"

// GetSeals returns the F_SEAL_* bits of a memfd, see fcntl(2).
func GetSeals(fd int) (uint32, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	return uint32(n), err
}

// AddSeals sets F_SEAL_* bits of a memfd.
func AddSeals(fd int, seals uint32) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, int(seals))
	return err
}

// Seals of a memfd, include/uapi/linux/fcntl.h.
const (
	SealSeal = unix.F_SEAL_SEAL
	SealExec = 0x20 // since v6.3
)
