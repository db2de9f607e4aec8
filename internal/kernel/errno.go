package kernel

import (
	"golang.org/x/sys/unix"
)

// Errno is an error number of errno(3).
type Errno = unix.Errno

// Signal is a signal number of signal(7).
type Signal = unix.Signal

// Error numbers that other packages tell apart, see errno(3).
const (
	EPERM  = unix.EPERM
	ENOENT = unix.ENOENT
	ESRCH  = unix.ESRCH
	EINTR  = unix.EINTR
	EIO    = unix.EIO
	EBADF  = unix.EBADF
	ECHILD = unix.ECHILD
	EAGAIN = unix.EAGAIN
	ENOMEM = unix.ENOMEM
	EACCES = unix.EACCES
	EFAULT = unix.EFAULT
	EBUSY  = unix.EBUSY
	EEXIST = unix.EEXIST
	ENODEV = unix.ENODEV
	ENXIO  = unix.ENXIO
	EINVAL = unix.EINVAL
	ENOTTY = unix.ENOTTY
	ENOSPC = unix.ENOSPC
	ENOSYS = unix.ENOSYS
)
