package kexec

import "errors"

// What is wrong with the kernel or initrd that was asked for.
var (
	// ErrBadKernel: the file is no x86-64 bzImage that this package can boot, or it is damaged.
	ErrBadKernel = errors.New("kernel image cannot be booted")

	// ErrBadInitrd: the initrd is missing, unreadable or empty.
	ErrBadInitrd = errors.New("initrd cannot be used")

	// ErrCmdLineTooLong: the kernel would cut the command line off.
	ErrCmdLineTooLong = errors.New("kernel command line too long")
)

// What stands in the way on the running machine.
var (
	// ErrNoKexec: the running kernel has no kexec_load (CONFIG_KEXEC).
	ErrNoKexec = errors.New("the running kernel has no kexec")

	// ErrDisabled: a sysctl forbids kexec until the next boot.
	ErrDisabled = errors.New("kexec is disabled")

	// ErrLockdown: the running kernel is locked down and loads signed kernels only.
	ErrLockdown = errors.New("the running kernel is locked down")

	// ErrPermission: this process may not load a kernel.
	ErrPermission = errors.New("no permission to load a kernel")

	// ErrNoMemory: there is no place for the next kernel, or not enough memory to hold it until the jump.
	ErrNoMemory = errors.New("not enough memory for the next kernel")

	// ErrUnsupportedMachine: the machine has something that the next kernel could not be told about.
	ErrUnsupportedMachine = errors.New("this machine is not supported")

	// ErrNotLoaded: Jump without a loaded kernel.
	ErrNotLoaded = errors.New("no kernel is loaded")
)
