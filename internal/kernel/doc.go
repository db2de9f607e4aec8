// Package kernel is the one door to the kernel: raw system calls, ioctls, structure layouts and cached feature probes.
//
// Nothing else imports golang.org/x/sys/unix or syscall. There is one file per domain (ptrace.go, mm.go, net.go, ...).
// Wrappers return errors that match kernel.Errno values with errors.Is.
package kernel
