package kernel

import (
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SchedAttr is struct sched_attr, include/uapi/linux/sched/types.h.
type SchedAttr = unix.SchedAttr

// SchedAttrSize is its size in the first version, bytes.
const SchedAttrSize = 48

// SchedGetAttr reads a task's scheduling policy and parameters.
func SchedGetAttr(tid int) (*SchedAttr, error) { return unix.SchedGetAttr(tid, 0) }

// SchedSetAttr changes the scheduling of the calling thread.
func SchedSetAttr(a *SchedAttr) error { return unix.SchedSetAttr(0, a, 0) }

// SchedFIFO gives the calling thread, not its children, the lowest real-time priority.
func SchedFIFO() error {
	return SchedSetAttr(&SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK})
}

// IsFIFO tells whether the calling thread has such a priority.
func IsFIFO() bool {
	a, err := SchedGetAttr(0)
	return err == nil && a.Policy == unix.SCHED_FIFO
}

// SetNice changes the nice value of the calling thread, -20 to 19: of the thread only, though setpriority(2) names processes (see its section on differences).
func SetNice(nice int) error { return unix.Setpriority(unix.PRIO_PROCESS, 0, nice) }

// KeepAwake keeps idle processors from sleeping until the file is closed, or this process ends: waking one takes longer than most of what kup asks of a
// thread. See Documentation/power/pm_qos_interface.rst.
func KeepAwake() (*os.File, error) {
	fd, err := Open("/dev/cpu_dma_latency", OWrOnly, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "/dev/cpu_dma_latency")
	if _, err := f.Write(make([]byte, 4)); err != nil { // s32: a latency of 0 µs
		f.Close()
		return nil, err
	}
	return f, nil
}

// SchedGetAffinity reads a task's processor mask as the kernel keeps it: little-endian words.
func SchedGetAffinity(tid int) ([]byte, error) {
	var buf [1024]byte
	n, _, e := unix.RawSyscall(unix.SYS_SCHED_GETAFFINITY, uintptr(tid), uintptr(len(buf)), uintptr(unsafe.Pointer(&buf)))
	if e != 0 {
		return nil, e
	}
	return slices.Clone(buf[:n]), nil
}

// IOPrioGet reads a task's I/O priority, see ioprio_get(2).
func IOPrioGet(tid int) (int, error) {
	const who = 1 // IOPRIO_WHO_PROCESS
	n, _, e := unix.RawSyscall(unix.SYS_IOPRIO_GET, who, uintptr(tid), 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// GetRobustList reads where a task's list of robust futexes begins, see get_robust_list(2).
func GetRobustList(tid int) (head, length uint64, err error) {
	_, _, e := unix.RawSyscall(unix.SYS_GET_ROBUST_LIST, uintptr(tid), uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&length)))
	if e != 0 {
		return 0, 0, e
	}
	return head, length, nil
}

// RegsSize is sizeof(struct user_regs_struct).
const RegsSize = int(unsafe.Sizeof(Regs{}))

// RegsBytes returns registers as they stand in memory.
func RegsBytes(r *Regs) []byte {
	return append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(r)), RegsSize)...)
}

// RegsFrom is the inverse of RegsBytes; data is RegsSize bytes.
func RegsFrom(data []byte) (r Regs) {
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&r)), RegsSize), data)
	return r
}
