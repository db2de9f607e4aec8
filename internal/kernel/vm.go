package kernel

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ReadMemory fills buf from address addr of process pid, see process_vm_readv(2). A short read is an error.
func ReadMemory(pid int, addr uint64, buf []byte) error {
	return transfer(unix.SYS_PROCESS_VM_READV, pid, addr, buf)
}

// WriteMemory writes buf to address addr of process pid, see process_vm_writev(2). The pages must be writable for the
// process itself; PokeMemory writes the others. A short write is an error.
func WriteMemory(pid int, addr uint64, buf []byte) error {
	return transfer(unix.SYS_PROCESS_VM_WRITEV, pid, addr, buf)
}

func transfer(nr uintptr, pid int, addr uint64, buf []byte) error {
	// One call moves at most MAX_RW_COUNT (2 GiB less a page).
	const most = 1 << 30
	for len(buf) > 0 {
		part := buf[:min(len(buf), most)]
		local := unix.Iovec{Base: &part[0], Len: uint64(len(part))}
		remote := unix.RemoteIovec{Base: uintptr(addr), Len: len(part)}
		n, _, e := unix.Syscall6(nr, uintptr(pid), uintptr(unsafe.Pointer(&local)), 1,
			uintptr(unsafe.Pointer(&remote)), 1, 0)
		if e != 0 {
			return fmt.Errorf("memory of pid %d at %#x, %d bytes: %w", pid, addr, len(part), e)
		}
		if n == 0 {
			return fmt.Errorf("memory of pid %d at %#x, %d bytes: %w", pid, addr, len(part), unix.EFAULT)
		}
		addr += uint64(n)
		buf = buf[n:]
	}
	return nil
}

// MemoryRange is [Start, End) of a process's addresses.
type MemoryRange struct{ Start, End uint64 }

// ReadMemoryRanges is ReadMemory for several ranges, each into a part of its own length.
func ReadMemoryRanges(pid int, ranges []MemoryRange, parts [][]byte) error {
	const most = 1024 // IOV_MAX, include/uapi/linux/uio.h
	var remote [most]unix.RemoteIovec
	var local [most]unix.Iovec
	for len(ranges) > 0 {
		n, size := min(len(ranges), most), uint64(0)
		for i, r := range ranges[:n] {
			remote[i] = unix.RemoteIovec{Base: uintptr(r.Start), Len: int(r.End - r.Start)}
			local[i] = unix.Iovec{Base: &parts[i][0], Len: r.End - r.Start}
			size += r.End - r.Start
		}
		got, _, e := unix.Syscall6(unix.SYS_PROCESS_VM_READV, uintptr(pid), uintptr(unsafe.Pointer(&local)), uintptr(n),
			uintptr(unsafe.Pointer(&remote)), uintptr(n), 0)
		if e == 0 && uint64(got) < size {
			e = unix.EFAULT
		}
		if e != 0 {
			return fmt.Errorf("memory of pid %d, %d ranges from %#x: %w", pid, n, ranges[0].Start, e)
		}
		ranges, parts = ranges[n:], parts[n:]
	}
	return nil
}

// PeekMemory is ReadMemory through /proc/PID/mem, which also reads pages that the process itself may not (PROT_NONE,
// protection keys).
func PeekMemory(pid int, addr uint64, buf []byte) error {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.ReadAt(buf, int64(addr))
	return err
}

// PokeMemory is WriteMemory through /proc/PID/mem, which also writes private pages that the process itself may not.
func PokeMemory(pid int, addr uint64, buf []byte) error {
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(buf, int64(addr))
	return err
}
