package kernel

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Features of memory.
var (
	FeatureUserfaultfd = &Feature{
		Name: "userfaultfd", Use: "finding dirty pages (UFFD_FEATURE_WP_ASYNC)", Since: "4.3", Option: "CONFIG_USERFAULTFD", Needs: "CAP_SYS_PTRACE or the sysctl vm.unprivileged_userfaultfd",
		How:   "fill a page of ours",
		probe: probeUserfaultfd,
	}
	FeatureUffdEvents = &Feature{
		Name: "userfaultfd events", Use: "following an application that changes its mappings while they are filled", Since: "4.11", Needs: "CAP_SYS_PTRACE",
		How:   "ask for the features FORK, REMAP, REMOVE and UNMAP",
		probe: func() error { return uffdFeatures(1<<1 | 1<<2 | 1<<3 | 1<<6) },
	}
	FeatureWPAsync = &Feature{
		Name: "UFFD_FEATURE_WP_ASYNC", Use: "finding dirty pages", Since: "6.7",
		How:   "ask for the feature",
		probe: func() error { return uffdFeatures(UffdFeatureWPAsync) },
	}
	FeaturePagemapScan = &Feature{
		Name: "PAGEMAP_SCAN", Use: "finding present and dirty pages quickly", Since: "6.7",
		How: "scan a page of ours",
		probe: func() error {
			return onPage(func(page []byte, pagemap *os.File) error {
				start := AddressOf(page)
				return PagemapScan(pagemap, PageScan{Start: start, End: start + PageSize, All: PageIsPresent, Return: PageIsPresent}, func(PageRegion) {})
			})
		},
	}
	FeatureSoftDirty = &Feature{
		Name: "soft-dirty bits", Use: "finding dirty pages where WP_ASYNC is missing", Since: "3.11", Option: "CONFIG_MEM_SOFT_DIRTY",
		How:   "clear the bits of kup, write to a page, and look for its bit",
		probe: probeSoftDirty,
	}
	FeaturePFN = &Feature{
		Name: "page frame numbers in /proc/PID/pagemap", Use: "leaving zero pages out, where PAGEMAP_SCAN is missing", Since: "2.6.25", Needs: "CAP_SYS_ADMIN",
		How: "look for the number of a page of ours",
		probe: func() error {
			return onPage(func(page []byte, pagemap *os.File) error {
				entry, err := pagemapEntry(pagemap, page)
				if err == nil && entry&(1<<55-1) == 0 {
					err = ErrNotPermitted
				}
				return err
			})
		},
	}
	FeatureGuard = &Feature{
		Name: "MADV_GUARD_INSTALL", Use: "guard pages inside of mappings", Since: "6.13",
		How: "make a page of ours one",
		probe: func() error {
			return onPage(func(page []byte, _ *os.File) error { return unix.Madvise(page, MadvGuardInstall) })
		},
	}
	FeatureDroppable = &Feature{
		Name: "MAP_DROPPABLE", Use: "the random number state of newer C libraries", Since: "6.11",
		How: "map a page of it",
		probe: func() error {
			page, err := MapAnon(PageSize, ProtRead|ProtWrite, MapDroppable)
			if err != nil {
				return err
			}
			return unix.Munmap(page)
		},
	}
	FeatureHugeTLB = &Feature{
		Name: "hugetlb pages", Use: "applications that map them", Since: "2.6", Option: "CONFIG_HUGETLBFS",
		How: "make a memfd of them, empty",
		probe: func() error {
			fd, err := MemfdCreate("kup-probe", MfdHugeTLB)
			if err != nil {
				return err
			}
			return unix.Close(fd)
		},
	}
	FeatureShmNextID = &Feature{
		Name: "/proc/sys/kernel/shm_next_id", Use: "giving System V segments back their IDs", Since: "3.8", Option: "CONFIG_CHECKPOINT_RESTORE and CONFIG_SYSVIPC",
		Needs: "root", How: "open it for writing",
		probe: func() error { return opens("/proc/sys/kernel/shm_next_id") },
	}
)

// opens tries to open a file for writing, and writes nothing.
func opens(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// onPage runs a test on a fresh page that was written to.
func onPage(test func(page []byte, pagemap *os.File) error) error {
	page, err := MapAnon(PageSize, ProtRead|ProtWrite, MapPrivate)
	if err != nil {
		return err
	}
	defer unix.Munmap(page)
	page[0] = 1
	pagemap, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return err
	}
	defer pagemap.Close()
	return test(page, pagemap)
}

// pagemapEntry reads what proc_pid_pagemap(5) describes.
func pagemapEntry(pagemap *os.File, page []byte) (uint64, error) {
	var entry [8]byte
	_, err := pagemap.ReadAt(entry[:], int64(AddressOf(page)/PageSize*8))
	return binary.LittleEndian.Uint64(entry[:]), err
}

// probeSoftDirty looks at the bit after clearing and after writing: kernels without the option accept the first silently.
func probeSoftDirty() error {
	const softDirty = 1 << 55
	return onPage(func(page []byte, pagemap *os.File) error {
		if err := os.WriteFile("/proc/self/clear_refs", []byte("4"), 0); err != nil {
			return err
		}
		clean, err := pagemapEntry(pagemap, page)
		if err != nil {
			return err
		}
		page[0] = 2
		dirty, err := pagemapEntry(pagemap, page)
		if err != nil {
			return err
		}
		if clean&softDirty != 0 || dirty&softDirty == 0 {
			return ErrNotSupported
		}
		return nil
	})
}

// withUffd opens a userfaultfd with features; EINVAL if one is unknown.
func withUffd(features uint64, test func(uffd int) error) error {
	fd, err := OpenUffd()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := UffdEnable(fd, features); err != nil {
		return err
	}
	return test(fd)
}

func uffdFeatures(features uint64) error {
	return withUffd(features, func(int) error { return nil })
}

func probeUserfaultfd() error {
	pages, err := MapAnon(2*PageSize, ProtRead|ProtWrite, MapPrivate)
	if err != nil {
		return err
	}
	defer unix.Munmap(pages)
	pages[0] = 42
	from := AddressOf(pages)
	to := from + PageSize
	return withUffd(0, func(uffd int) error {
		const modeMissing, requestCopy = 1, 0xc028aa03 // UFFDIO_REGISTER_MODE_MISSING, UFFDIO_COPY
		if err := UffdRegister(uffd, to, to+PageSize, modeMissing); err != nil {
			return err
		}
		fill := struct {
			dst, src, length, mode uint64
			copied                 int64
		}{to, from, PageSize, 0, 0}
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(uffd), requestCopy, uintptr(unsafe.Pointer(&fill))); e != 0 {
			return fmt.Errorf("UFFDIO_COPY: %w", e)
		}
		if pages[PageSize] != 42 {
			return fmt.Errorf("UFFDIO_COPY copied nothing: %w", ErrNotSupported)
		}
		return nil
	})
}
