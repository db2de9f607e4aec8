package kernel

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Features by which kup reaches into a process and makes new ones.
var (
	FeatureSeize = &Feature{
		Name: "PTRACE_SEIZE", Use: "stopping applications without a signal", Since: "3.4", Needs: "CAP_SYS_PTRACE",
		How:   "seize and interrupt a child",
		probe: func() error { return withTracee(func(int) error { return nil }) },
	}
	FeatureSigMask = &Feature{
		Name: "PTRACE_GETSIGMASK and PTRACE_PEEKSIGINFO", Use: "signal masks and queued signals", Since: "3.11",
		How: "read both of a stopped child, and set its mask to what it was",
		probe: func() error {
			return withTracee(func(pid int) error {
				mask, err := PtraceGetSigMask(pid)
				if err == nil {
					err = PtraceSetSigMask(pid, mask)
				}
				if err == nil {
					_, err = PtracePeekSigInfo(pid, true)
				}
				return err
			})
		},
	}
	FeatureXState = &Feature{
		Name: "NT_X86_XSTATE", Use: "vector registers and protection keys", Since: "2.6.35",
		How: "read the register set of a stopped child",
		probe: func() error {
			return withTracee(func(pid int) error {
				_, err := PtraceGetRegset(pid, NTX86XState, make([]byte, 64<<10))
				return err
			})
		},
	}
	FeatureRseq = &Feature{
		Name: "PTRACE_GET_RSEQ_CONFIGURATION", Use: "restartable sequences, which the C library registers in every thread", Since: "5.13",
		Option: "CONFIG_RSEQ", How: "ask for a stopped child's",
		probe: func() error {
			return withTracee(func(pid int) error { _, err := PtraceGetRseq(pid); return err })
		},
	}
	FeatureSuspendSeccomp = &Feature{
		Name: "PTRACE_O_SUSPEND_SECCOMP", Use: "applications with a seccomp filter; this version of kup refuses them", Since: "4.3", Option: "CONFIG_CHECKPOINT_RESTORE",
		Needs: "CAP_SYS_ADMIN", How: "set the option on a stopped child",
		probe: func() error {
			return withTracee(func(pid int) error { return PtraceSetOptions(pid, PtraceOSuspendSeccomp) })
		},
	}
	FeatureProcMem = &Feature{
		Name: "writing to read-only pages through /proc/PID/mem", Use: "putting code into a stopped application", Since: "2.6.39",
		How: "write a byte of a stopped child's text to what it was",
		probe: func() error {
			return withTracee(func(pid int) error {
				err := PokeMemory(pid, subjectBase, []byte{0x7f})
				if errors.Is(err, EIO) {
					return fmt.Errorf("the boot parameter proc_mem.force_override forbids it: %w", ErrNotPermitted)
				}
				return err
			})
		},
	}
	FeatureVMReadv = &Feature{
		Name: "process_vm_readv", Use: "copying memory", Since: "3.2", Option: "CONFIG_CROSS_MEMORY_ATTACH", Needs: "CAP_SYS_PTRACE",
		How: "read a child's program header",
		probe: func() error {
			return withSubject(func(pid int) error { return ReadMemory(pid, subjectBase, make([]byte, 4)) })
		},
	}
	FeaturePidfdGetfd = &Feature{
		Name: "pidfd_getfd", Use: "taking and giving descriptors", Since: "5.6", Needs: "CAP_SYS_PTRACE",
		How:   "take a child's descriptor 0",
		probe: func() error { return withSubject(takeDescriptor) },
	}
	FeatureKcmp = &Feature{
		Name: "kcmp", Use: "telling shared descriptors from similar ones", Since: "3.5", Option: "CONFIG_KCMP", Needs: "CAP_SYS_PTRACE",
		How: "compare a descriptor of ours with a child's",
		probe: func() error {
			return withSubject(func(pid int) error { _, err := CompareFiles(pid, 0, pid, 0); return err })
		},
	}
	FeatureTimers = &Feature{
		Name: "/proc/PID/timers", Use: "POSIX timers", Since: "3.10", Option: "CONFIG_CHECKPOINT_RESTORE",
		How: "read a child's",
		probe: func() error {
			return withSubject(func(pid int) error { _, err := os.ReadFile(fmt.Sprintf("/proc/%d/timers", pid)); return err })
		},
	}
	FeatureMapFiles = &Feature{
		Name: "/proc/PID/map_files", Use: "mapped files that were deleted, shared memory", Since: "3.3", Needs: "CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE",
		How: "open the file behind a child's text",
		probe: func() error {
			return withSubject(func(pid int) error {
				f, err := os.Open(fmt.Sprintf("/proc/%d/map_files/%x-%x", pid, subjectBase, subjectBase+PageSize))
				if err == nil {
					f.Close()
				}
				return err
			})
		},
	}
	FeatureMemfdExec = &Feature{
		Name: "memfd_create and executing the result", Use: "the seeds of restored processes", Since: "3.17",
		How:   "execute a program of 129 bytes from memory",
		probe: func() error { return withSubject(func(int) error { return nil }) },
	}
	FeatureSetTID = &Feature{
		Name: "clone3 with set_tid", Use: "giving processes and threads back their IDs", Since: "5.5", Needs: "CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE",
		How:   "ask for pid 1, which is taken: EEXIST means that any free one would have been given",
		probe: probeSetTID,
	}
	FeatureMMMap = &Feature{
		Name: "PR_SET_MM_MAP", Use: "giving processes back their heap limits, arguments and executable", Since: "3.18", Option: "CONFIG_CHECKPOINT_RESTORE",
		How: "ask for the size of its argument",
		probe: func() error {
			var size uint32
			return unix.Prctl(unix.PR_SET_MM, unix.PR_SET_MM_MAP_SIZE, uintptr(unsafe.Pointer(&size)), 0, 0)
		},
	}
	FeatureTimerIDs = &Feature{
		Name: "PR_TIMER_CREATE_RESTORE_IDS", Use: "giving POSIX timers back their IDs at once, and not by trying", Since: "6.15",
		How:   "ask whether it is on",
		probe: func() error { return unix.Prctl(prTimerCreateRestoreIDs, prTimerRestoreIDsGet, 0, 0, 0) },
	}
	FeatureTimeNS = &Feature{
		Name: "time namespaces", Use: "a monotonic clock that goes on where it was, after a reboot", Since: "5.6", Option: "CONFIG_TIME_NS", Needs: "CAP_SYS_ADMIN",
		How:   "make one in a thread that ends afterwards",
		probe: func() error { return inLostThread(func() error { return unix.Unshare(unix.CLONE_NEWTIME) }) },
	}
	FeatureCloseRange = &Feature{
		Name: "close_range", Use: "emptying descriptor tables", Since: "5.9",
		How:   "close a range above all descriptors",
		probe: func() error { return unix.CloseRange(1<<30, 1<<30, 0) },
	}
	FeatureFIFO = &Feature{
		Name: "SCHED_FIFO", Use: "short freezes of many busy threads", Since: "2.6", Needs: "CAP_SYS_NICE, and a control group with real-time budget",
		How: "give a child the policy",
		probe: func() error {
			return withSubject(func(pid int) error {
				return unix.SchedSetAttr(pid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
			})
		},
	}
)

// PR_TIMER_CREATE_RESTORE_IDS and its GET argument, include/uapi/linux/prctl.h.
const (
	prTimerCreateRestoreIDs = 77
	prTimerRestoreIDsGet    = 2
)

func takeDescriptor(pid int) error {
	pidfd, err := PidfdOpen(pid)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	fd, err := PidfdGetfd(pidfd, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// probeSetTID relies on the order in kernel/pid.c, alloc_pid: permission is checked before the ID is looked for, and nothing was made by then.
func probeSetTID() error {
	wanted := int32(1)
	args := struct {
		flags, pidfd, childTID, parentTID, exitSignal uint64
		stack, stackSize, tls                         uint64
		setTID                                        *int32
		setTIDSize                                    uint64
	}{exitSignal: uint64(unix.SIGCHLD), setTID: &wanted, setTIDSize: 1}
	_, _, e := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0)
	switch e {
	case unix.EEXIST:
		return nil
	case unix.E2BIG:
		return fmt.Errorf("%w: %w", ErrNotSupported, e) // a clone3 without the field
	default:
		return e
	}
}

// inLostThread runs a call that changes its thread for good.
func inLostThread(call func() error) error {
	done := make(chan error)
	go func() {
		lockForGood()
		done <- call()
	}()
	return <-done
}
