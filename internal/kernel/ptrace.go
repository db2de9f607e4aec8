package kernel

import (
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests and events of ptrace(2), include/uapi/linux/ptrace.h.
const (
	ptraceSeize         = 0x4206
	ptraceInterrupt     = 0x4207
	ptraceListen        = 0x4208
	ptracePeekSigInfo   = 0x4209
	ptraceGetSigMask    = 0x420a
	ptraceSetSigMask    = 0x420b
	ptraceGetRseqConfig = 0x420f

	PtraceEventStop = 128 // status>>16 of a stop of a seized task that is no signal delivery

	PtraceOTraceSysGood   = 1
	PtraceOExitKill       = 1 << 20
	PtraceOSuspendSeccomp = 1 << 21

	PeekSigInfoShared = 1 // PTRACE_PEEKSIGINFO_SHARED: the process-wide queue
)

// SigInfoSize is sizeof(siginfo_t).
const SigInfoSize = 128

// Regs is struct user_regs_struct.
type Regs = unix.PtraceRegs

// ptrace makes the raw call. It may be raw because no request used here sleeps.
func ptrace(request, tid int, addr, data uintptr) error {
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, data, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// ptraceMemory is ptrace with memory of ours. It becomes a number in the call itself and not before: what lies on a goroutine's stack moves when that
// grows.
func ptraceMemory(request, tid int, addr uintptr, data unsafe.Pointer) error {
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, uintptr(data), 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// PtraceSeize attaches to a running task without stopping it.
func PtraceSeize(tid int, options uintptr) error { return ptrace(ptraceSeize, tid, 0, options) }

// PtraceInterrupt asks a seized task to stop.
func PtraceInterrupt(tid int) error { return ptrace(ptraceInterrupt, tid, 0, 0) }

// PtraceListen leaves a group-stopped task stopped but receptive to SIGCONT.
func PtraceListen(tid int) error { return ptrace(ptraceListen, tid, 0, 0) }

// PtraceSetOptions replaces the PTRACE_O_ options of a stopped task.
func PtraceSetOptions(tid int, options uintptr) error {
	return ptrace(unix.PTRACE_SETOPTIONS, tid, 0, options)
}

// PtraceCont continues a stopped task and delivers sig to it, if not 0.
func PtraceCont(tid int, sig Signal) error { return ptrace(unix.PTRACE_CONT, tid, 0, uintptr(sig)) }

// PtraceSyscall is PtraceCont up to the next entry to or exit from a system call.
func PtraceSyscall(tid int, sig Signal) error {
	return ptrace(unix.PTRACE_SYSCALL, tid, 0, uintptr(sig))
}

// PtraceDetach lets a stopped task run untraced and delivers sig to it, if not 0.
func PtraceDetach(tid int, sig Signal) error {
	return ptrace(unix.PTRACE_DETACH, tid, 0, uintptr(sig))
}

// PtraceGetRegs reads the general registers of a stopped task.
func PtraceGetRegs(tid int) (r Regs, err error) {
	err = ptraceMemory(unix.PTRACE_GETREGS, tid, 0, unsafe.Pointer(&r))
	return r, err
}

// PtraceSetRegs writes the general registers of a stopped task.
func PtraceSetRegs(tid int, r *Regs) error {
	err := ptraceMemory(unix.PTRACE_SETREGS, tid, 0, unsafe.Pointer(r))
	return err
}

// PtraceGetRegset reads a register set (NT_*) into buf and returns how many bytes the kernel filled.
func PtraceGetRegset(tid, set int, buf []byte) (int, error) {
	iov := unix.Iovec{Base: &buf[0], Len: uint64(len(buf))}
	err := ptraceMemory(unix.PTRACE_GETREGSET, tid, uintptr(set), unsafe.Pointer(&iov))
	return int(iov.Len), err
}

// PtraceSetRegset writes a register set (NT_*).
func PtraceSetRegset(tid, set int, buf []byte) error {
	iov := unix.Iovec{Base: &buf[0], Len: uint64(len(buf))}
	err := ptraceMemory(unix.PTRACE_SETREGSET, tid, uintptr(set), unsafe.Pointer(&iov))
	return err
}

// NTX86XState is the register set of all XSAVE components, in the non-compacted format.
const NTX86XState = 0x202

// PtraceGetXState reads it, as long as it is for this processor.
func PtraceGetXState(tid int) ([]byte, error) {
	var buf [16 << 10]byte
	n, err := PtraceGetRegset(tid, NTX86XState, buf[:])
	return slices.Clone(buf[:n]), err
}

// PtraceGetSigMask reads the blocked signals of a stopped task; bit n-1 is signal n.
func PtraceGetSigMask(tid int) (mask uint64, err error) {
	err = ptraceMemory(ptraceGetSigMask, tid, 8, unsafe.Pointer(&mask))
	return mask, err
}

// PtraceSetSigMask replaces the blocked signals of a stopped task.
func PtraceSetSigMask(tid int, mask uint64) error {
	err := ptraceMemory(ptraceSetSigMask, tid, 8, unsafe.Pointer(&mask))
	return err
}

// PtracePeekSigInfo copies the queued signals of a stopped task without removing them: those of the process if shared,
// else those of the thread. Each is SigInfoSize bytes.
func PtracePeekSigInfo(tid int, shared bool) ([][]byte, error) {
	const infos = 16 // at a time
	args := struct {
		off   uint64
		flags uint32
		nr    int32
	}{nr: infos}
	if shared {
		args.flags = PeekSigInfoShared
	}
	var all [][]byte
	var buf [infos][SigInfoSize]byte
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_PTRACE, ptracePeekSigInfo, uintptr(tid),
			uintptr(unsafe.Pointer(&args)), uintptr(unsafe.Pointer(&buf)), 0, 0)
		if e != 0 {
			return nil, e
		}
		for i := range int(n) {
			all = append(all, slices.Clone(buf[i][:]))
		}
		if int(n) < int(args.nr) {
			return all, nil
		}
		args.off += uint64(n)
	}
}

// PtraceGetSigInfo reads the siginfo of the signal at whose delivery the task is stopped.
func PtraceGetSigInfo(tid int) (info [SigInfoSize]byte, err error) {
	err = ptraceMemory(unix.PTRACE_GETSIGINFO, tid, 0, unsafe.Pointer(&info))
	return info, err
}

// RseqConfig is struct ptrace_rseq_configuration.
type RseqConfig struct {
	Pointer   uint64
	Size      uint32
	Signature uint32
	Flags     uint32
	_         uint32
}

// PtraceGetRseq reads a stopped task's restartable-sequence registration (since v5.13). Pointer is 0 where there is none.
func PtraceGetRseq(tid int) (c RseqConfig, err error) {
	err = ptraceMemory(ptraceGetRseqConfig, tid, unsafe.Sizeof(c), unsafe.Pointer(&c))
	return c, err
}

// WaitStatus is the status word of wait4(2).
type WaitStatus = unix.WaitStatus

// Wait waits for a state change of one task (__WALL). With noHang it returns tid 0 if there is none. It never waits for
// "any" child. It is a scheduler-visible call: a raw one would stall the garbage collector for as long as it sleeps.
func Wait(tid int, noHang bool) (got int, status WaitStatus, err error) {
	options := unix.WALL
	if noHang {
		options |= unix.WNOHANG
	}
	for {
		got, err = unix.Wait4(tid, &status, options, nil)
		if err != unix.EINTR {
			return got, status, err
		}
	}
}
