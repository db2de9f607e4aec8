package kernel

import (
	"golang.org/x/sys/unix"
)

// Errno is an error number of errno(3).
type Errno = unix.Errno

// Signal is a signal number of signal(7).
type Signal = unix.Signal
