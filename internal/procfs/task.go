package procfs

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/kup-project/kup/internal/kernel"
)

// Processes returns the ids of all processes in this pid namespace, ascending.
func Processes() ([]int, error) { return numbers("/proc") }

// Threads returns the ids of a process's tasks, ascending; the leader's is the pid itself.
func Threads(pid int) ([]int, error) { return numbers(Path(pid, "task")) }

// FDs returns a process's open descriptor numbers, ascending.
func FDs(pid int) ([]int, error) { return numbers(Path(pid, "fd")) }

func numbers(dir string) ([]int, error) {
	f, err := kernel.OpenFile(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	list := make([]int, 0, len(names))
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list, nil
}

// Children returns the ids of the processes whose parent is any thread of the process, zombies included, ascending. While the process runs or
// forks, children may be missed: see the notes on /proc/PID/task/TID/children in proc(5).
func Children(pid int) ([]int, error) {
	tids, err := Threads(pid)
	if err != nil {
		return nil, err
	}
	var all []int
	for _, tid := range tids {
		text, err := read(pid, "task/"+strconv.Itoa(tid)+"/children")
		if errors.Is(err, fs.ErrNotExist) {
			if _, err := os.Stat(Path(pid, "task/"+strconv.Itoa(tid)+"/stat")); err != nil {
				continue // the thread has ended; its children went to another one
			}
			return childrenByParent(pid) // a kernel without CONFIG_PROC_CHILDREN
		}
		if err != nil {
			return nil, err
		}
		var p integers
		for _, v := range strings.Fields(text) {
			all = append(all, p.int(v))
		}
		if p.err != nil {
			return nil, formatError(pid, "children", "%v", p.err)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// childrenByParent looks at every process for its parent.
func childrenByParent(pid int) ([]int, error) {
	pids, err := Processes()
	if err != nil {
		return nil, err
	}
	var all []int
	for _, child := range pids {
		s, err := ReadStat(child)
		if Gone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if s.PPID == pid {
			all = append(all, child)
		}
	}
	return all, nil
}
