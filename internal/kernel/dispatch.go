package kernel

import "unsafe"

// ptraceGetSyscallUserDispatch is PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, since v6.4.
const ptraceGetSyscallUserDispatch = 0x4211

// PtraceDispatches reports whether a stopped task has system calls turned into SIGSYS, see PR_SET_SYSCALL_USER_DISPATCH in prctl(2).
// EINVAL or EIO: the kernel cannot tell.
func PtraceDispatches(tid int) (bool, error) {
	var config struct{ mode, selector, offset, len uint64 } // struct ptrace_sud_config
	err := ptraceMemory(ptraceGetSyscallUserDispatch, tid, unsafe.Sizeof(config), unsafe.Pointer(&config))
	return config.mode != 0, err
}
