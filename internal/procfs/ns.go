package procfs

import (
	"errors"
	"io/fs"
	"os"
	"strings"
)

// NamespaceKinds are the names under /proc/PID/ns that a process is in, see namespaces(7); those "for children" are not among them.
var NamespaceKinds = []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"}

// pfExiting is PF_EXITING of include/linux/sched.h, in Stat.Flags.
const pfExiting = 0x4

// ReadNamespaces returns what a process's namespaces are, by kind, in the kernel's form "net:[4026531833]". A kind that the kernel does not
// know is absent.
func ReadNamespaces(pid int) (map[string]string, error) {
	if _, err := os.Stat(Path(pid, "ns")); err != nil {
		return nil, err
	}
	all := make(map[string]string)
	for _, kind := range NamespaceKinds {
		link, err := os.Readlink(Path(pid, "ns/"+kind))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if errors.Is(err, fs.ErrPermission) {
			// Also said of a process that is ending or has ended: fs/proc/namespaces.c, proc_ns_readlink.
			st, statErr := ReadStat(pid)
			if statErr != nil {
				return nil, statErr
			}
			if st.Flags&pfExiting != 0 {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		all[kind] = link
	}
	return all, nil
}

// ForksIntoOwnPIDs reports whether a process's children are in its own PID namespace. They are not after unshare(CLONE_NEWPID) or setns(2): its next
// child is the init of the new one.
func ForksIntoOwnPIDs(pid int) (bool, error) {
	own, err := os.Readlink(Path(pid, "ns/pid"))
	if err != nil {
		return false, err
	}
	children, err := os.Readlink(Path(pid, "ns/pid_for_children"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // one that has no process yet
	}
	return children == own, err
}

// TimeOffsets is what a process's time namespace adds to the clocks, in ns.
type TimeOffsets struct{ Monotonic, Boottime int64 }

// ReadTimeOffsets reads /proc/PID/timens_offsets: those of the namespace that its children will be in, which is its own
// unless it called unshare(2). They are zero on a kernel without time namespaces.
func ReadTimeOffsets(pid int) (TimeOffsets, error) {
	text, err := read(pid, "timens_offsets")
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(Path(pid, "ns")); err != nil {
			return TimeOffsets{}, err
		}
		return TimeOffsets{}, nil
	}
	if err != nil {
		return TimeOffsets{}, err
	}
	return parseTimeOffsets(pid, text)
}

func parseTimeOffsets(pid int, text string) (o TimeOffsets, err error) {
	var p integers
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return o, formatError(pid, "timens_offsets", "%q", line)
		}
		ns := p.int64(f[1])*1e9 + p.int64(f[2])
		switch f[0] {
		case "monotonic":
			o.Monotonic = ns
		case "boottime":
			o.Boottime = ns
		}
	}
	if p.err != nil {
		return TimeOffsets{}, formatError(pid, "timens_offsets", "%v", p.err)
	}
	return o, nil
}
