package procfs

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/parallel"
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
	const many = 100
	if len(tids) > many {
		// One look at each process tells as much as one at each thread, and may be less to do.
		if pids, err := Processes(); err == nil && len(pids) < len(tids) {
			return childrenAmong(pids, pid)
		}
	}
	var all []int
	var mutex sync.Mutex
	err = parallel.Urgently(tids, func(tid int) error {
		children, err := threadChildren(pid, tid)
		mutex.Lock()
		defer mutex.Unlock()
		all = append(all, children...)
		return err
	})
	if errors.Is(err, errNoList) {
		return childrenByParent(pid)
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// errNoList says that the kernel has no lists of children (CONFIG_PROC_CHILDREN).
var errNoList = errors.New("no list of children")

// threadChildren returns the children of one thread.
func threadChildren(pid, tid int) (children []int, err error) {
	task := "task/" + strconv.Itoa(tid)
	text, err := read(pid, task+"/children")
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(Path(pid, task+"/stat")); err != nil {
			return nil, nil // the thread has ended; its children went to another one
		}
		return nil, errNoList
	}
	if err != nil {
		return nil, err
	}
	var p integers
	for _, v := range strings.Fields(text) {
		children = append(children, p.int(v))
	}
	if p.err != nil {
		return nil, formatError(pid, "children", "%v", p.err)
	}
	return children, nil
}

// childrenByParent looks at every process for its parent.
func childrenByParent(pid int) ([]int, error) {
	pids, err := Processes()
	if err != nil {
		return nil, err
	}
	return childrenAmong(pids, pid)
}

// childrenAmong returns those of some processes whose parent is pid.
func childrenAmong(pids []int, pid int) ([]int, error) {
	var all []int
	var mutex sync.Mutex
	err := parallel.Urgently(pids, func(child int) error {
		s, err := ReadStat(child)
		if Gone(err) || err == nil && s.PPID != pid {
			return nil
		}
		mutex.Lock()
		defer mutex.Unlock()
		all = append(all, child)
		return err
	})
	slices.Sort(all)
	return all, err
}
