package kernel

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// PidfdOpen returns a descriptor for a process, see pidfd_open(2).
func PidfdOpen(pid int) (int, error) { return unix.PidfdOpen(pid, 0) }

// PidfdGetfd returns a duplicate, close-on-exec, of another process's descriptor, see pidfd_getfd(2).
func PidfdGetfd(pidfd, fd int) (int, error) { return unix.PidfdGetfd(pidfd, fd, 0) }

// Types of kcmp(2), include/uapi/linux/kcmp.h.
const (
	kcmpFile     = 0
	kcmpFiles    = 2
	kcmpEpollTFD = 7
)

// CompareFiles orders two descriptors of two processes by their open file description: 0 means the same, and -1 and 1 are an
// order that holds until the next boot.
func CompareFiles(pid1, fd1, pid2, fd2 int) (int, error) {
	return kcmp(pid1, pid2, kcmpFile, uintptr(fd1), uintptr(fd2))
}

// CompareTables orders two tasks by their descriptor table, as CompareFiles does.
func CompareTables(tid1, tid2 int) (int, error) { return kcmp(tid1, tid2, kcmpFiles, 0, 0) }

// HasOurTable tells whether a process uses our descriptor table: this one does, and those that execute wills.
func HasOurTable(pid int) bool {
	order, err := CompareTables(os.Getpid(), pid)
	return err == nil && order == 0
}

// WatchesFile reports whether the epoll instance that process pid has as epfd watches, under the number target, the open file
// description that process pid2 has as fd2. Of several registrations of one number, nth chooses in the order of fdinfo.
func WatchesFile(pid2, fd2, pid, epfd, target, nth int) (bool, error) {
	slot := struct{ efd, tfd, toff uint32 }{uint32(epfd), uint32(target), uint32(nth)} // struct kcmp_epoll_slot
	r, _, e := unix.Syscall6(unix.SYS_KCMP, uintptr(pid2), uintptr(pid), kcmpEpollTFD, uintptr(fd2), uintptr(unsafe.Pointer(&slot)), 0)
	if e != 0 {
		return false, kcmpError(pid2, pid, e)
	}
	return r == 0, nil
}

func kcmpError(pid1, pid2 int, e Errno) error {
	return fmt.Errorf("kcmp of pids %d and %d: %w", pid1, pid2, e)
}

func kcmp(pid1, pid2 int, kind, a, b uintptr) (int, error) {
	r, _, e := unix.Syscall6(unix.SYS_KCMP, uintptr(pid1), uintptr(pid2), kind, a, b, 0)
	switch {
	case e != 0:
		return 0, kcmpError(pid1, pid2, e)
	case r == 0:
		return 0, nil
	case r == 1:
		return -1, nil
	default: // 2 is greater; 3, unequal and unordered, is not returned for these types
		return 1, nil
	}
}

// Pipe is pipe2(2) with O_CLOEXEC.
func Pipe() (read, write int, err error) {
	var p [2]int
	err = unix.Pipe2(p[:], unix.O_CLOEXEC)
	return p[0], p[1], err
}

// PipeSize returns the capacity of a pipe in bytes, F_GETPIPE_SZ.
func PipeSize(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0) }

// SetPipeSize sets it.
func SetPipeSize(fd, size int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, size)
	return err
}

// Unread returns how many bytes wait in a pipe, FIONREAD.
func Unread(fd int) (int, error) { return unix.IoctlGetInt(fd, unix.TIOCINQ) }

// Tee copies up to size bytes from one pipe to another without taking them out of the first, tee(2). It does not wait:
// where there is nothing it returns EAGAIN.
func Tee(from, to, size int) (int, error) {
	n, err := unix.Tee(from, to, size, unix.SPLICE_F_NONBLOCK)
	return int(n), err
}

// Read is read(2).
func Read(fd int, buf []byte) (n int, err error) {
	err = ignoringEINTR(func() error { n, err = unix.Read(fd, buf); return err })
	return n, err
}

// Write is write(2).
func Write(fd int, buf []byte) (n int, err error) {
	err = ignoringEINTR(func() error { n, err = unix.Write(fd, buf); return err })
	return n, err
}

// HungUp reports whether poll(2) says POLLHUP for a descriptor.
func HungUp(fd int) (bool, error) {
	p := []unix.PollFd{{Fd: int32(fd)}}
	err := ignoringEINTR(func() error { _, err := unix.Poll(p, 0); return err })
	return p[0].Revents&unix.POLLHUP != 0, err
}

// EventFD is eventfd(2).
func EventFD(semaphore bool) (int, error) {
	flags := unix.EFD_CLOEXEC
	if semaphore {
		flags |= unix.EFD_SEMAPHORE
	}
	return unix.Eventfd(0, flags)
}

// SignalFD makes a descriptor that reads the signals of mask; bit n-1 is signal n.
func SignalFD(mask uint64) (int, error) {
	set := unix.Sigset_t{Val: [16]uint64{mask}}
	return unix.Signalfd(-1, &set, unix.SFD_CLOEXEC)
}

// Clocks and flags of timerfd_create(2).
const (
	ClockRealtime      = unix.CLOCK_REALTIME
	ClockMonotonic     = unix.CLOCK_MONOTONIC
	ClockBoottime      = unix.CLOCK_BOOTTIME
	ClockBoottimeAlarm = unix.CLOCK_BOOTTIME_ALARM
	TimerAbsolute      = unix.TFD_TIMER_ABSTIME
	TimerCancelOnSet   = unix.TFD_TIMER_CANCEL_ON_SET
)

// tfdIocSetTicks is TFD_IOC_SET_TICKS, _IOW('T', 0, u64), include/linux/timerfd.h.
const tfdIocSetTicks = 0x40085400

// TimerFD is timerfd_create(2).
func TimerFD(clock int) (int, error) { return unix.TimerfdCreate(clock, unix.TFD_CLOEXEC) }

// TimerFDTime returns the time left and the period of a timer, ns.
func TimerFDTime(fd int) (value, interval int64, err error) {
	var t unix.ItimerSpec
	err = unix.TimerfdGettime(fd, &t)
	return t.Value.Nano(), t.Interval.Nano(), err
}

// SetTimerFD arms a timer, ns; value 0 disarms it.
func SetTimerFD(fd, flags int, value, interval int64) error {
	t := unix.ItimerSpec{Value: unix.NsecToTimespec(value), Interval: unix.NsecToTimespec(interval)}
	return unix.TimerfdSettime(fd, flags, &t, nil)
}

// SetTimerFDTicks sets the number of expiries not yet read, at least 1. It needs a kernel with CONFIG_CHECKPOINT_RESTORE.
func SetTimerFDTicks(fd int, ticks uint64) error {
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), tfdIocSetTicks, uintptr(unsafe.Pointer(&ticks)))
	if e != 0 {
		return e
	}
	return nil
}

// ClockTime returns what a clock shows, ns.
func ClockTime(clock int) (int64, error) {
	var t unix.Timespec
	err := unix.ClockGettime(int32(clock), &t)
	return t.Nano(), err
}

// Operations and events of epoll_ctl(2).
const (
	EpollCtlAdd  = unix.EPOLL_CTL_ADD
	EpollCtlMod  = unix.EPOLL_CTL_MOD
	EpollOneShot = unix.EPOLLONESHOT
	EpollIn      = unix.EPOLLIN
	EpollOut     = unix.EPOLLOUT
	// EpollBehaviour are the bits of a registration that are no events: EPOLLWAKEUP, EPOLLONESHOT, EPOLLET, EPOLLEXCLUSIVE
	// (fs/eventpoll.c, EP_PRIVATE_BITS).
	EpollBehaviour = unix.EPOLLWAKEUP | unix.EPOLLONESHOT | (unix.EPOLLET & 0xffffffff) | unix.EPOLLEXCLUSIVE
)

// EpollCreate is epoll_create1(2).
func EpollCreate() (int, error) { return unix.EpollCreate1(unix.EPOLL_CLOEXEC) }

// RlimitNoFile is RLIMIT_NOFILE.
const RlimitNoFile = unix.RLIMIT_NOFILE

// MakeDevice is makedev(3).
func MakeDevice(major, minor uint32) uint64 { return unix.Mkdev(major, minor) }

// EpollControl is epoll_ctl(2).
func EpollControl(epfd, operation, fd int, events uint32, data uint64) error {
	e := unix.EpollEvent{Events: events, Fd: int32(data), Pad: int32(data >> 32)}
	return unix.EpollCtl(epfd, operation, fd, &e)
}

// EpollReady returns the data of what is ready now, without waiting.
func EpollReady(epfd int) (data []uint64, err error) {
	events := make([]unix.EpollEvent, 64)
	n, err := unix.EpollWait(epfd, events, 0)
	for _, e := range events[:max(n, 0)] {
		data = append(data, uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32)
	}
	return data, err
}
