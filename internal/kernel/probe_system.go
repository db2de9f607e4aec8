package kernel

import (
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Features of the system as a whole: process IDs, kexec.
var (
	FeatureLastPID = &Feature{
		Name: "/proc/sys/kernel/ns_last_pid", Use: "keeping low process IDs free for the system", Since: "3.3", Option: "CONFIG_CHECKPOINT_RESTORE",
		Needs: "CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE", How: "open it for writing",
		probe: func() error { return opens("/proc/sys/kernel/ns_last_pid") },
	}
	FeatureKexecLoad = &Feature{
		Name: "kexec_load", Use: "starting another kernel", Since: "2.6.13", Option: "CONFIG_KEXEC", Needs: "CAP_SYS_BOOT, and a kernel that is not locked down",
		How:   "an impossible call, which is refused for its arguments only after permission was checked",
		probe: KexecPermitted,
	}
	FeatureKexecFileLoad = &Feature{
		Name: "kexec_file_load", Use: "starting another kernel where a locked-down one demands a signature; this version of kup does not", Since: "3.17", Option: "CONFIG_KEXEC_FILE",
		Needs: "CAP_SYS_BOOT", How: "a call with an unknown flag",
		probe: probeKexecFileLoad,
	}
	FeatureMemoryMap = &Feature{
		Name: "/sys/firmware/memmap", Use: "telling the next kernel which memory there is", Since: "2.6.27", Option: "CONFIG_FIRMWARE_MEMMAP",
		How:   "look for it",
		probe: func() error { _, err := os.Stat("/sys/firmware/memmap"); return err },
	}
	FeatureMemoryBlocks = &Feature{
		Name: "memory blocks", Use: "giving memory that was kept from this kernel to its page allocator", Since: "2.6.14", Option: "CONFIG_MEMORY_HOTPLUG, CONFIG_DEV_DAX_HMEM and CONFIG_DEV_DAX_KMEM",
		How:   "look for /sys/devices/system/memory/block_size_bytes",
		probe: func() error { _, err := os.Stat("/sys/devices/system/memory/block_size_bytes"); return err },
	}
	FeatureDevMem = &Feature{
		Name: "/dev/mem", Use: "reading memory that was kept from this kernel", Since: "1.0", Option: "CONFIG_DEVMEM", Needs: "CAP_SYS_RAWIO, and a kernel that is not locked down",
		How: "open it for reading",
		probe: func() error {
			f, err := os.Open("/dev/mem")
			if err != nil {
				return err
			}
			return f.Close()
		},
	}
	FeatureLiveUpdate = &Feature{
		Name: "Live Update Orchestrator", Use: "memory that the kernel itself hands over to the next one; this version of kup does not use it", Since: "6.19", Option: "CONFIG_LIVEUPDATE",
		How:   "look for /dev/liveupdate",
		probe: func() error { _, err := os.Stat("/dev/liveupdate"); return err },
	}
)

// Capabilities that kup needs, see capabilities(7).
var (
	FeatureCapPtrace     = capability("2.2", "CAP_SYS_PTRACE", unix.CAP_SYS_PTRACE, "reaching into applications")
	FeatureCapAdmin      = capability("2.2", "CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN, "namespaces, page frame numbers, seccomp filters")
	FeatureCapCheckpoint = capability("5.9", "CAP_CHECKPOINT_RESTORE", unix.CAP_CHECKPOINT_RESTORE, "process IDs, mapped files; CAP_SYS_ADMIN includes it")
	FeatureCapNetAdmin   = capability("2.2", "CAP_NET_ADMIN", unix.CAP_NET_ADMIN, "TCP connections, packet filter")
	FeatureCapResource   = capability("2.2", "CAP_SYS_RESOURCE", unix.CAP_SYS_RESOURCE, "raising hard limits, pipes larger than the system's limit, negative oom scores")
	FeatureCapBoot       = capability("2.2", "CAP_SYS_BOOT", unix.CAP_SYS_BOOT, "starting another kernel")
)

func capability(since, name string, number int, use string) *Feature {
	return &Feature{
		Name: name, Use: use, Since: since, Needs: "a process that has it: root, outside of a restricted container",
		How: "look into kup's effective set",
		probe: func() error {
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var sets [2]unix.CapUserData
			if err := unix.Capget(&header, &sets[0]); err != nil {
				return err
			}
			if sets[number/32].Effective>>(number%32)&1 == 0 {
				return ErrNotPermitted
			}
			return nil
		},
	}
}

// lockForGood ties the goroutine to its thread, which ends with it.
func lockForGood() { runtime.LockOSThread() }

func probeKexecFileLoad() error {
	const unknownFlag = 1 << 31
	none := ^uintptr(0)
	_, _, e := unix.Syscall6(unix.SYS_KEXEC_FILE_LOAD, none, none, 0, 0, unknownFlag, 0)
	if e == unix.EINVAL {
		return nil
	}
	return e
}

// Lockdown returns what the kernel forbids even to root, see kernel_lockdown(7): "none", "integrity" or "confidentiality", and
// "unknown" where securityfs is not mounted or the kernel has no lockdown.
func Lockdown() string {
	text, err := os.ReadFile("/sys/kernel/security/lockdown")
	if err != nil {
		return "unknown"
	}
	// "none [integrity] confidentiality": the brackets mark what is in force.
	_, rest, _ := strings.Cut(string(text), "[")
	mode, _, found := strings.Cut(rest, "]")
	if !found {
		return "unknown"
	}
	return mode
}
