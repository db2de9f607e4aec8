package kernel

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// EFBIG is what a file system says to a file longer than it can hold.
const EFBIG = unix.EFBIG

// PunchHole gives the blocks behind the bytes [offset, offset+size) of f back; they read as zeros afterwards, and the file
// keeps its size. See fallocate(2), FALLOC_FL_PUNCH_HOLE. File systems without holes give EOPNOTSUPP.
func PunchHole(f *os.File, offset, size int64) error {
	return fallocate(f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, size)
}

// Allocate makes sure that blocks stand behind the bytes [offset, offset+size) of f, so that writing to a mapping of them
// cannot fail for want of space (which would be a SIGBUS). ENOSPC if there are not enough.
func Allocate(f *os.File, offset, size int64) error {
	return fallocate(f, unix.FALLOC_FL_KEEP_SIZE, offset, size)
}

func fallocate(f *os.File, mode uint32, offset, size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), mode, offset, size)
		if err != unix.EINTR {
			return err
		}
	}
}

// SeekData returns the first offset at or after offset where f has data, and size if there is none up to size. It moves
// the file's position. See lseek(2), SEEK_DATA.
func SeekData(f *os.File, offset, size int64) (int64, error) {
	if offset >= size {
		return size, nil
	}
	at, err := unix.Seek(int(f.Fd()), offset, unix.SEEK_DATA)
	if err == unix.ENXIO {
		return size, nil
	}
	return min(at, size), err
}

// SeekHole returns the first offset at or after offset where f has a hole; the end of the file counts as one.
func SeekHole(f *os.File, offset int64) (int64, error) {
	return unix.Seek(int(f.Fd()), offset, unix.SEEK_HOLE)
}

// MapFile maps the bytes [offset, offset+size) of f for reading, and for writing if write is set, with MAP_SHARED. Offset
// and size are multiples of the page size. Access behind the end of the file, or to a hole that no block can be found
// for, is a SIGBUS.
func MapFile(f *os.File, offset int64, size int, write bool) ([]byte, error) {
	prot := unix.PROT_READ
	if write {
		prot |= unix.PROT_WRITE
	}
	return unix.Mmap(int(f.Fd()), offset, size, prot, unix.MAP_SHARED)
}

// Unmap ends a mapping made by MapFile or MapAnon. It takes the whole slice.
func Unmap(mem []byte) error { return unix.Munmap(mem) }

// SyncMapping writes the changed pages of a mapping to the file system's device and waits, see msync(2), MS_SYNC.
func SyncMapping(mem []byte) error { return unix.Msync(mem, unix.MS_SYNC) }

// SyncData writes a file's contents and size to the device and waits, see fdatasync(2).
func SyncData(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// FreeSpace returns how many bytes the file system of path can still take from this user, see statfs(2). File systems
// without a limit (ramfs) report 0 blocks in all and give a negative number.
func FreeSpace(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("free space of the file system of %s: %w", path, err)
	}
	if st.Blocks == 0 {
		return -1, nil
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// FileOwner returns who owns a file that os.Stat, os.Lstat or os.File.Stat described.
func FileOwner(info fs.FileInfo) (uid, gid uint32) {
	st := info.Sys().(*syscall.Stat_t)
	return st.Uid, st.Gid
}
