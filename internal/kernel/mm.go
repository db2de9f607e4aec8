package kernel

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Flags of mmap(2), include/uapi/linux/mman.h and asm-generic/mman*.h.
const (
	ProtNone  = 0
	ProtRead  = unix.PROT_READ
	ProtWrite = unix.PROT_WRITE
	ProtExec  = unix.PROT_EXEC

	MapShared         = unix.MAP_SHARED
	MapPrivate        = unix.MAP_PRIVATE
	MapDroppable      = 0x08 // since v6.11
	MapAnonymous      = unix.MAP_ANONYMOUS
	MapGrowsDown      = unix.MAP_GROWSDOWN
	MapNoReserve      = unix.MAP_NORESERVE
	MapHugeTLB        = unix.MAP_HUGETLB
	MapHugeShift      = unix.MAP_HUGE_SHIFT
	MapFixed          = unix.MAP_FIXED
	MapFixedNoReplace = 0x100000

	MremapMayMove = unix.MREMAP_MAYMOVE
	MremapFixed   = unix.MREMAP_FIXED

	MlockOnFault = 1
	MclFuture    = unix.MCL_FUTURE
)

// Advice of madvise(2), include/uapi/asm-generic/mman-common.h.
const (
	MadvRandom       = unix.MADV_RANDOM
	MadvSequential   = unix.MADV_SEQUENTIAL
	MadvDontFork     = unix.MADV_DONTFORK
	MadvMergeable    = unix.MADV_MERGEABLE
	MadvHugePage     = unix.MADV_HUGEPAGE
	MadvNoHugePage   = unix.MADV_NOHUGEPAGE
	MadvDontDump     = unix.MADV_DONTDUMP
	MadvDoDump       = unix.MADV_DODUMP
	MadvWipeOnFork   = unix.MADV_WIPEONFORK
	MadvGuardInstall = 102 // since v6.13
)

// PageSize is the size of a page frame, bytes.
const PageSize = 4096

// Page categories of PAGEMAP_SCAN, include/uapi/linux/fs.h.
const (
	PageIsWPAllowed = 1 << 0 // in a mapping that is watched asynchronously
	PageIsWritten   = 1 << 1
	PageIsFile      = 1 << 2
	PageIsPresent   = 1 << 3
	PageIsSwapped   = 1 << 4
	PageIsPFNZero   = 1 << 5
	PageIsHuge      = 1 << 6
	PageIsGuard     = 1 << 8 // since v6.15
)

// PageRegion is struct page_region: a run of pages of one category.
type PageRegion struct {
	Start, End uint64
	Categories uint64
}

// PageScan is struct pm_scan_arg without its flags: which pages of [Start, End) to report, and what of them.
type PageScan struct {
	Start, End uint64
	Inverted   uint64 // categories whose absence is asked for
	All        uint64 // categories that must all be there, after inversion
	Any        uint64 // categories of which one must be there; 0: no condition
	Return     uint64 // categories to report
	Protect    bool   // write-protect what matches, atomically with the look at it (PM_SCAN_WP_MATCHING)
	Watched    bool   // EPERM if the mapping is not registered with UFFD_FEATURE_WP_ASYNC (PM_SCAN_CHECK_WPASYNC)
}

// PagemapScan calls report for each run of pages that match, in ascending order, by ioctl(PAGEMAP_SCAN) on the open
// /proc/PID/pagemap. Kernels before v6.7 answer ENOTTY.
func PagemapScan(pagemap *os.File, scan PageScan, report func(PageRegion)) error {
	type arg struct {
		size, flags, start, end, walkEnd uint64
		vec                              *PageRegion // no number: a goroutine's stack moves when it grows
		vecLen, maxPages                 uint64
		inverted, mask, anyof, ret       uint64
	}
	vec := make([]PageRegion, 512)
	a := arg{start: scan.Start, end: scan.End, vec: &vec[0], vecLen: uint64(len(vec)),
		inverted: scan.Inverted, mask: scan.All, anyof: scan.Any, ret: scan.Return}
	a.size = uint64(unsafe.Sizeof(a))
	if scan.Protect {
		a.flags = 1 << 0 // PM_SCAN_WP_MATCHING
	}
	if scan.Watched {
		a.flags |= 1 << 1 // PM_SCAN_CHECK_WPASYNC
	}
	request := uintptr(3)<<30 | uintptr(a.size)<<16 | 'f'<<8 | 16 // _IOWR('f', 16, struct pm_scan_arg)
	for a.start < a.end {
		n, _, e := unix.Syscall(unix.SYS_IOCTL, pagemap.Fd(), request, uintptr(unsafe.Pointer(&a)))
		if e != 0 {
			return fmt.Errorf("scan %s: %w", pagemap.Name(), e)
		}
		for _, r := range vec[:n] {
			report(r)
		}
		if a.walkEnd <= a.start {
			return nil
		}
		a.start = a.walkEnd
	}
	return nil
}

// NoHugePages keeps a mapping of ours in pages of 4 KiB, MADV_NOHUGEPAGE.
func NoHugePages(mem []byte) error { return unix.Madvise(mem, unix.MADV_NOHUGEPAGE) }

// KeepFromForks keeps a mapping of ours out of children, MADV_DONTFORK: what is written to it stays in its page frames.
func KeepFromForks(mem []byte) error { return unix.Madvise(mem, unix.MADV_DONTFORK) }

// LockOnFault has pages of a mapping of ours locked when they are touched, mlock2(2).
func LockOnFault(mem []byte) error {
	if _, _, e := unix.Syscall(unix.SYS_MLOCK2, uintptr(unsafe.Pointer(unsafe.SliceData(mem))), uintptr(len(mem)), MlockOnFault); e != 0 {
		return fmt.Errorf("mlock2 of %d bytes: %w", len(mem), e)
	}
	return nil
}

// MapAnon maps fresh anonymous memory.
func MapAnon(size, prot, flags int) ([]byte, error) {
	return unix.Mmap(-1, 0, size, prot, flags|unix.MAP_ANONYMOUS)
}

// ShmStat is struct shmid_ds of shmctl(IPC_STAT).
type ShmStat struct {
	Key        int32
	UID, GID   uint32
	CUID, CGID uint32
	Mode       uint32 // permissions and SHM_DEST, SHM_LOCKED
	_          uint16
	Seq        uint16
	_          [2]uint64
	Size       uint64
	_          [3]int64 // times
	CPID, LPID int32
	Attached   uint64
	_          [2]uint64
}

// Bits and commands of shmctl(2), include/uapi/linux/shm.h.
const (
	ShmDest     = 0o1000 // removed, gone with its last user
	ShmReadOnly = 0o10000
	ShmRemap    = 0o40000
	ShmExec     = 0o100000
	IPCCreat    = 0o1000
	IPCExcl     = 0o2000
	ipcRmid     = 0
	ipcSet      = 1
	ipcStat     = 2
)

// ShmGetStat describes the System V shared memory segment id.
func ShmGetStat(id int) (s ShmStat, err error) {
	_, _, e := unix.Syscall(unix.SYS_SHMCTL, uintptr(id), ipcStat, uintptr(unsafe.Pointer(&s)))
	if e != 0 {
		return s, e
	}
	return s, nil
}

// ShmSet changes owner and permissions of a segment.
func ShmSet(id int, s *ShmStat) error {
	_, _, e := unix.Syscall(unix.SYS_SHMCTL, uintptr(id), ipcSet, uintptr(unsafe.Pointer(s)))
	if e != 0 {
		return e
	}
	return nil
}

// ShmRemove marks a segment to go away with its last user.
func ShmRemove(id int) error {
	_, _, e := unix.Syscall(unix.SYS_SHMCTL, uintptr(id), ipcRmid, 0)
	if e != 0 {
		return e
	}
	return nil
}

// ShmGet is shmget(2).
func ShmGet(key int32, size uint64, flags int) (int, error) {
	id, _, e := unix.Syscall(unix.SYS_SHMGET, uintptr(key), uintptr(size), uintptr(flags))
	if e != 0 {
		return -1, e
	}
	return int(id), nil
}

// ShmAttach attaches a segment at an address of the kernel's choice.
func ShmAttach(id int) (uintptr, error) {
	addr, _, e := unix.Syscall(unix.SYS_SHMAT, uintptr(id), 0, 0)
	if e != 0 {
		return 0, e
	}
	return addr, nil
}

// ShmDetach is shmdt(2).
func ShmDetach(addr uintptr) error {
	_, _, e := unix.Syscall(unix.SYS_SHMDT, addr, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// AddressOf returns where a mapping stands in our own address space.
func AddressOf(mem []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))) }

// MemfdCreate is memfd_create(2). MfdCloexec is added.
func MemfdCreate(name string, flags int) (int, error) {
	return unix.MemfdCreate(name, flags|unix.MFD_CLOEXEC)
}

// Flags of memfd_create(2).
const (
	MfdAllowSealing = unix.MFD_ALLOW_SEALING
	MfdHugeTLB      = unix.MFD_HUGETLB
	MfdExec         = 0x10 // since v6.3
	MfdNoExecSeal   = 0x08
)
