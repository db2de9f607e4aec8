package tracee

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
)

// ProcessInfo is what can be said about a running process of a tree.
type ProcessInfo struct {
	PID     int
	PPID    int
	Comm    string
	Threads []int // ascending
	Zombie  bool
}

// String names the process for a person: "pid 4711 (memcached)".
func (i *ProcessInfo) String() string { return fmt.Sprintf("pid %d (%s)", i.PID, i.Comm) }

// pfKthread is PF_KTHREAD of include/linux/sched.h, in Stat.Flags.
const pfKthread = 0x00200000

// Check looks at the trees of processes under the roots, parents before children, and refuses what cannot be frozen and restored.
// Nothing is touched: the processes may be running, so that children born meanwhile may be missing.
func Check(roots []int) ([]ProcessInfo, error) {
	own, err := procfs.ReadNamespaces(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("kup's own namespaces: %w", err)
	}
	pids, err := tree(roots)
	if err != nil {
		return nil, err
	}
	var all []ProcessInfo
	for _, pid := range pids {
		info, err := checkPatiently(pid, own)
		if procfs.Gone(err) {
			continue // it ended just now
		}
		if err != nil {
			return nil, err
		}
		all = append(all, info)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no process is left of the trees under pids %v: %w", roots, fs.ErrNotExist)
	}
	return all, nil
}

// tree lists the processes under the roots, parents before children. A root that is below another one appears once.
func tree(roots []int) ([]int, error) {
	var list []int
	seen := map[int]bool{}
	for _, root := range roots {
		if _, err := procfs.ReadStat(root); err != nil {
			if procfs.Gone(err) {
				return nil, fmt.Errorf("there is no process %d: %w", root, err)
			}
			return nil, err
		}
	}
	var visit func(pid int) error
	visit = func(pid int) error {
		if seen[pid] {
			return nil
		}
		seen[pid] = true
		list = append(list, pid)
		children, err := procfs.Children(pid)
		if err != nil && !procfs.Gone(err) {
			return fmt.Errorf("children of pid %d: %w", pid, err)
		}
		for _, child := range children {
			if err := visit(child); err != nil {
				return err
			}
		}
		return nil
	}
	for _, root := range topmost(roots) {
		if err := visit(root); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// topmost leaves out roots that descend from another root, so that parents come first.
func topmost(roots []int) []int {
	is := map[int]bool{}
	for _, root := range roots {
		is[root] = true
	}
	var top []int
	for _, root := range roots {
		below := false
		for pid := root; pid > 1 && !below; {
			st, err := procfs.ReadStat(pid)
			if err != nil {
				break
			}
			pid = st.PPID
			below = is[pid]
		}
		if !below {
			top = append(top, root)
		}
	}
	return top
}

// checkPatiently is checkProcess, again if /proc denies access: that it does for good, or for the moment in which a process ends, or becomes another by execve(2) in a
// thread (fs/proc/namespaces.c, proc_ns_readlink; fs/proc/base.c, proc_pid_get_link).
func checkPatiently(pid int, own map[string]string) (info ProcessInfo, err error) {
	const attempts = 10
	for range attempts {
		if info, err = checkProcess(pid, own); !errors.Is(err, fs.ErrPermission) {
			break
		}
	}
	return info, err
}

// checkProcess refuses one process, by what /proc says of it.
func checkProcess(pid int, own map[string]string) (ProcessInfo, error) {
	st, err := procfs.ReadStat(pid)
	if err != nil {
		return ProcessInfo{}, err
	}
	info := ProcessInfo{PID: pid, PPID: st.PPID, Comm: st.Comm}
	if info.Threads, err = procfs.Threads(pid); err != nil {
		return info, err
	}
	switch {
	case pid == 1:
		return info, refuse.Errorf("%v is this system's init and cannot be checkpointed; name the application's own process", &info)
	case pid == os.Getpid():
		return info, refuse.Errorf("%v is kup itself; run kup from outside of the application's process tree", &info)
	case st.Flags&pfKthread != 0:
		return info, refuse.Errorf("%v is a kernel thread and cannot be checkpointed", &info)
	}
	if st.State == 'Z' || st.State == 'X' {
		// A leader's state is Z also if it has exited and other threads live on.
		info.Zombie = len(info.Threads) <= 1
	}
	if info.Zombie {
		return info, nil
	}
	if err := checkTracers(&info); err != nil {
		return info, err
	}
	if err := checkNamespaces(&info, own); err != nil {
		return info, err
	}
	if err := checkCGroup(&info); err != nil {
		return info, err
	}
	return info, checkExe(&info)
}

func checkTracers(info *ProcessInfo) error {
	for _, tid := range info.Threads {
		status, err := procfs.ReadStatus(tid)
		if procfs.Gone(err) {
			continue
		}
		if err != nil {
			return err
		}
		if status.TracerPID != 0 {
			return refuseTraced(info, tid, status.TracerPID)
		}
	}
	return nil
}

func refuseTraced(info *ProcessInfo, tid, tracer int) error {
	name := "a process"
	if st, err := procfs.ReadStatus(tracer); err == nil {
		name, tracer = st.Name, st.TGID // it was the thread that traces
	}
	return refuse.Errorf("%v: thread %d is traced by pid %d (%s), and a thread can have one tracer only; end or detach the debugger", info, tid, tracer, name)
}

// checkNamespaces demands kup's own namespaces, except for time.
func checkNamespaces(info *ProcessInfo, own map[string]string) error {
	theirs, err := procfs.ReadNamespaces(info.PID)
	if err != nil {
		return err
	}
	for _, kind := range procfs.NamespaceKinds {
		if kind != "time" && theirs[kind] != "" && theirs[kind] != own[kind] {
			return refuse.Errorf("%v is in another %s namespace (%s) than kup (%s), which is not supported; start it in the same one, or run kup inside", info, kind, theirs[kind], own[kind])
		}
	}
	return nil
}

// checkExe refuses 32-bit programs.
func checkExe(info *ProcessInfo) error {
	f, err := os.Open(procfs.Path(info.PID, "exe"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // an exited leader has none; its threads' registers tell later
	}
	if err != nil {
		return err
	}
	defer f.Close()
	ident := make([]byte, elf.EI_NIDENT)
	if _, err := io.ReadFull(f, ident); err != nil {
		return fmt.Errorf("%v: read its program file: %w", info, err)
	}
	if elf.Class(ident[elf.EI_CLASS]) != elf.ELFCLASS64 {
		return refuse32(info)
	}
	return nil
}

func refuse32(who fmt.Stringer) error {
	return refuse.Errorf("%v is a 32-bit program, which cannot be checkpointed; use a 64-bit build of it", who)
}
