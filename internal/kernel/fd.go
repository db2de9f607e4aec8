package kernel

import (
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Flags of open(2), as F_GETFL returns them on x86-64.
const (
	OAccMode   = unix.O_ACCMODE
	ORdOnly    = unix.O_RDONLY
	OWrOnly    = unix.O_WRONLY
	ORdWr      = unix.O_RDWR
	OCreat     = unix.O_CREAT
	OExcl      = unix.O_EXCL
	ONoCTTY    = unix.O_NOCTTY
	OTrunc     = unix.O_TRUNC
	OAppend    = unix.O_APPEND
	ONonblock  = unix.O_NONBLOCK
	ODSync     = unix.O_DSYNC
	OSync      = unix.O_SYNC
	OAsync     = unix.O_ASYNC
	ODirect    = unix.O_DIRECT
	OLargeFile = 0x8000 // x/sys has 0 here; the kernel's value, include/uapi/asm-generic/fcntl.h
	ODirectory = unix.O_DIRECTORY
	ONoFollow  = unix.O_NOFOLLOW
	ONoATime   = unix.O_NOATIME
	OCloExec   = unix.O_CLOEXEC
	OPath      = unix.O_PATH
	OTmpFile   = unix.O_TMPFILE // includes O_DIRECTORY
)

// Types of files in st_mode, inode(7).
const (
	ModeType       = unix.S_IFMT
	ModeRegular    = unix.S_IFREG
	ModeDirectory  = unix.S_IFDIR
	ModeCharDevice = unix.S_IFCHR
	ModeBlock      = unix.S_IFBLK
	ModeFIFO       = unix.S_IFIFO
	ModeSocket     = unix.S_IFSOCK
	ModeSymlink    = unix.S_IFLNK
)

// Magic numbers of file systems, statfs(2).
const (
	ProcMagic   = unix.PROC_SUPER_MAGIC
	CgroupMagic = unix.CGROUP_SUPER_MAGIC
	Cgroup2     = unix.CGROUP2_SUPER_MAGIC
	MqueueMagic = 0x19800202 // ipc/mqueue.c
	SysMagic    = unix.SYSFS_MAGIC
	TmpfsMagic  = unix.TMPFS_MAGIC
	RamfsMagic  = unix.RAMFS_MAGIC
)

// AtFDCwd is AT_FDCWD.
const AtFDCwd = unix.AT_FDCWD

// FDCloExec is FD_CLOEXEC, the only descriptor flag.
const FDCloExec = unix.FD_CLOEXEC

// Commands of fcntl(2).
const (
	FDupFDCloExec = unix.F_DUPFD_CLOEXEC
	FGetFD        = unix.F_GETFD
	FSetFD        = unix.F_SETFD
	FGetFL        = unix.F_GETFL
	FSetFL        = unix.F_SETFL
	FSetLk        = unix.F_SETLK
)

// Stat is struct stat.
type Stat = unix.Stat_t

// StatPath is stat(2): it follows symbolic links, and the links in /proc/PID/fd to whatever file they stand for.
func StatPath(path string) (s Stat, err error) {
	err = ignoringEINTR(func() error { return unix.Stat(path, &s) })
	return s, err
}

// LstatPath is lstat(2).
func LstatPath(path string) (s Stat, err error) {
	err = ignoringEINTR(func() error { return unix.Lstat(path, &s) })
	return s, err
}

// StatFD is fstat(2).
func StatFD(fd int) (s Stat, err error) {
	err = ignoringEINTR(func() error { return unix.Fstat(fd, &s) })
	return s, err
}

// MajorMinor splits a device number.
func MajorMinor(dev uint64) (major, minor uint32) { return unix.Major(dev), unix.Minor(dev) }

// FileSystem returns the magic number of the file system that a path is on.
func FileSystem(path string) (int64, error) {
	var s unix.Statfs_t
	err := ignoringEINTR(func() error { return unix.Statfs(path, &s) })
	return s.Type, err
}

// ReadLink returns what a symbolic link contains.
func ReadLink(path string) (string, error) {
	for size := 256; ; size *= 2 {
		buf := make([]byte, size)
		n, err := unix.Readlink(path, buf)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}

// Open is open(2), close-on-exec always added.
func Open(path string, flags int, mode uint32) (fd int, err error) {
	err = ignoringEINTR(func() error {
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC, mode)
		return err
	})
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// OpenFile opens a file that never makes its reader wait, such as those of /proc. os.Open finds that out by itself, by seven more system calls.
func OpenFile(path string) (*os.File, error) {
	fd, err := Open(path, ORdOnly, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// ReadFile reads the whole of a file as OpenFile opens it.
func ReadFile(path string) ([]byte, error) {
	fd, err := Open(path, ORdOnly, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return readOn(fd, path, make([]byte, 0, 4096))
}

// readOn appends the rest of an open file to what was read of it.
func readOn(fd int, path string, data []byte) ([]byte, error) {
	for ; ; data = slices.Grow(data, cap(data)) {
		for len(data) < cap(data) {
			var n int
			err := ignoringEINTR(func() (err error) {
				n, err = unix.Read(fd, data[len(data):cap(data)])
				return err
			})
			if err != nil {
				return nil, &os.PathError{Op: "read", Path: path, Err: err}
			}
			if n == 0 {
				return data, nil
			}
			data = data[:len(data)+n]
		}
	}
}

// ReadOnce is ReadFile for the many files of /proc that the kernel shows whole in one read if there is room (fs/seq_file.c, single_open).
func ReadOnce(path string) (string, error) {
	fd, err := Open(path, ORdOnly, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var buf [4096]byte
	n, _, e := unix.Syscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
	switch {
	case e == unix.EINTR:
		n = 0
	case e != 0:
		return "", &os.PathError{Op: "read", Path: path, Err: e}
	case int(n) < len(buf):
		return string(buf[:n]), nil
	}
	data, err := readOn(fd, path, slices.Grow(slices.Clone(buf[:n]), len(buf)))
	return string(data), err
}

// Close is close(2). On Linux the descriptor is gone even if it returns an error.
func Close(fd int) error { return unix.Close(fd) }

// Seek is lseek(2) with SEEK_SET.
func Seek(fd int, offset int64) error {
	_, err := unix.Seek(fd, offset, unix.SEEK_SET)
	return err
}

// ChangeOwner is fchown(2).
func ChangeOwner(fd int, uid, gid uint32) error { return unix.Fchown(fd, int(uid), int(gid)) }

// ChangeMode is fchmod(2), permission bits.
func ChangeMode(fd int, mode uint32) error { return unix.Fchmod(fd, mode&^unix.S_IFMT) }

// MakeFIFO is mkfifo(3).
func MakeFIFO(path string, mode uint32) error { return unix.Mkfifo(path, mode&^unix.S_IFMT) }

// FileFlags returns access mode and status flags, F_GETFL.
func FileFlags(fd int) (uint32, error) {
	v, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return uint32(v), err
}

// SetFileFlags replaces the status flags, F_SETFL.
func SetFileFlags(fd int, flags uint32) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, int(flags))
	return err
}

// FileOwnerSignal says to whom the kernel sends signals about a file: F_GETOWN_EX and F_GETSIG of fcntl(2).
type FileOwnerSignal struct {
	Type   int32 // F_OWNER_TID, F_OWNER_PID or F_OWNER_PGRP
	PID    int32 // 0: nobody
	Signal int
}

// SignalOwner returns the owner of a file.
func SignalOwner(fd int) (FileOwnerSignal, error) {
	var owner struct{ kind, pid int32 } // struct f_owner_ex
	_, _, e := unix.Syscall(unix.SYS_FCNTL, uintptr(fd), unix.F_GETOWN_EX, uintptr(unsafe.Pointer(&owner)))
	if e != 0 {
		return FileOwnerSignal{}, e
	}
	sig, err := unix.FcntlInt(uintptr(fd), unix.F_GETSIG, 0)
	return FileOwnerSignal{Type: owner.kind, PID: owner.pid, Signal: sig}, err
}

// SetSignalOwner sets the owner of a file.
func SetSignalOwner(fd int, o FileOwnerSignal) error {
	owner := struct{ kind, pid int32 }{o.Type, o.PID}
	_, _, e := unix.Syscall(unix.SYS_FCNTL, uintptr(fd), unix.F_SETOWN_EX, uintptr(unsafe.Pointer(&owner)))
	if e != 0 {
		return e
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETSIG, o.Signal)
	return err
}

// Flock takes a flock(2) lock without waiting.
func Flock(fd int, exclusive bool) error {
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	return ignoringEINTR(func() error { return unix.Flock(fd, how|unix.LOCK_NB) })
}

// RecordLock returns struct flock for a lock on [start, start+length), length 0 meaning to the end of the file, as
// F_SETLK takes it.
func RecordLock(write bool, start, length int64) []byte {
	l := unix.Flock_t{Type: unix.F_RDLCK, Whence: unix.SEEK_SET, Start: start, Len: length}
	if write {
		l.Type = unix.F_WRLCK
	}
	return append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(&l)), unsafe.Sizeof(l))...)
}

// LockDescription takes an open file description lock (F_OFD_SETLK) without waiting.
func LockDescription(fd int, write bool, start, length int64) error {
	lock := RecordLock(write, start, length)
	_, _, e := unix.Syscall(unix.SYS_FCNTL, uintptr(fd), unix.F_OFD_SETLK, uintptr(unsafe.Pointer(&lock[0])))
	if e != 0 {
		return e
	}
	return nil
}

func ignoringEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// SetModified sets a file's time of last modification, ns, and leaves that of the last access.
func SetModified(fd int, ns int64) error {
	times := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(ns)}
	_, _, e := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// Dup returns a duplicate, close-on-exec.
func Dup(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) }

// ChangePathOwner is lchown(2).
func ChangePathOwner(path string, uid, gid uint32) error {
	return unix.Lchown(path, int(uid), int(gid))
}

// DupTo is dup3(2), without close-on-exec.
func DupTo(from, to int) error { return unix.Dup3(from, to, 0) }
