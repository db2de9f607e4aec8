package kernel

import (
	"errors"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// KexecSegmentMax is the largest number of segments of one kexec_load, KEXEC_SEGMENT_MAX of include/uapi/linux/kexec.h.
const KexecSegmentMax = 16

// kexecArchX86_64 is KEXEC_ARCH_X86_64 of include/uapi/linux/kexec.h: the machine type, in the upper half of the flags.
const kexecArchX86_64 = 62 << 16

// KexecSegment is a piece of the next kernel: Data goes to physical memory at Addr, and zeros follow up to Size bytes.
// Addr and Size are multiples of the page size.
type KexecSegment struct {
	Data []byte
	Addr uint64
	Size uint64
}

// kexecSegment is struct kexec_segment of include/uapi/linux/kexec.h.
type kexecSegment struct {
	buf   unsafe.Pointer
	bufsz uintptr
	mem   uintptr
	memsz uintptr
}

// KexecLoad loads the segments for the next reboot of KexecReboot, which starts at the physical address entry, in 64-bit mode
// with memory mapped at its physical addresses. It replaces what was loaded before. See kexec_load(2).
func KexecLoad(entry uint64, segments []KexecSegment) error {
	var pin runtime.Pinner
	defer pin.Unpin()
	raw := make([]kexecSegment, len(segments))
	for i, s := range segments {
		raw[i] = kexecSegment{bufsz: uintptr(len(s.Data)), mem: uintptr(s.Addr), memsz: uintptr(s.Size)}
		if len(s.Data) > 0 {
			pin.Pin(&s.Data[0])
			raw[i].buf = unsafe.Pointer(&s.Data[0])
		}
	}
	if len(raw) == 0 {
		// No segments would unload instead.
		return unix.EINVAL
	}
	pin.Pin(&raw[0])
	return kexecLoad(uintptr(entry), uintptr(len(raw)), unsafe.Pointer(&raw[0]), kexecArchX86_64)
}

// KexecUnload forgets the loaded kernel. It is no error if there is none.
func KexecUnload() error { return kexecLoad(0, 0, nil, kexecArchX86_64) }

// UnloadKernel puts a clause into force: on our death KexecUnload is called.
func (w *Will) UnloadKernel(clause int) {
	c := w.clauses[clause]
	c.call.args = [6]uintptr{3: kexecArchX86_64}
	atomic.StoreUintptr(&c.call.nr, unix.SYS_KEXEC_LOAD)
}

// KexecPermitted asks the kernel, without loading or unloading anything, whether this process may call kexec_load. The kernel checks
// permission, lock-down and its security modules before it looks at the arguments (kernel/kexec.c, kexec_load_check), so
// EINVAL for impossible arguments means yes. ENOSYS: no kexec_load in this kernel; EPERM or EACCES: forbidden.
//
// Where the sysctl kernel.kexec_load_limit_reboot counts loads (>= 6.3), this call counts as one.
func KexecPermitted() error {
	const tooMany, unknownFlag = 1 << 16, 1 << 15
	err := kexecLoad(0, tooMany, nil, kexecArchX86_64|unknownFlag)
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}

// KexecReboot starts the loaded kernel at once: nothing is stopped, synced or unmounted first. It returns only with an error: EINVAL if no
// kernel is loaded or this is not the first pid namespace, EPERM without CAP_SYS_BOOT, EBUSY during another kexec_load.
func KexecReboot() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_KEXEC) }

func kexecLoad(entry, n uintptr, segments unsafe.Pointer, flags uintptr) error {
	_, _, e := unix.Syscall6(unix.SYS_KEXEC_LOAD, entry, n, uintptr(segments), flags, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}
