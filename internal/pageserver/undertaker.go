package pageserver

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
)

// UndertakerFlag is the flag of Verb that names the file of a server which has ended too early.
const UndertakerFlag = "--bury"

// Bury ends an application whose page server has ended before the last page was in. It runs where the guard was, so the server's userfaultfds are
// still open: until it returns and they are closed, whoever touches a missing page waits, instead of reading zeros.
func Bury(path string) error {
	f, err := load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the server had removed it: all was done
	}
	if err != nil {
		return err
	}
	m := mourning{filling: f, known: map[Identity]bool{}, programs: map[string]bool{}}
	if living, err := m.living(); err == nil && !slices.ContainsFunc(living, lacksPages) {
		return os.Remove(path)
	}
	cause := cmp.Or(f.Cause, "it was killed")
	killed := map[int]bool{}
	for {
		living, err := m.living()
		for _, pid := range living {
			killed[pid] = true
			if err := kernel.Kill(pid, kernel.SIGKILL); err != nil && !errors.Is(err, kernel.ESRCH) {
				return fmt.Errorf("kill pid %d: %w", pid, err)
			}
		}
		if err == nil && len(living) == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	done, total := f.Done()
	outlook := fmt.Sprintf("The image %s is unharmed: restore it again", f.Image)
	if f.InPlace {
		outlook = "Their memory was in page frames, which were theirs already: it is lost"
	}
	f.Failed = fmt.Sprintf("the page server (pid %d) ended before all memory was back (%d of %d MB): %s; the %d processes of the application were killed. %s",
		f.Server.PID, done>>20, total>>20, cause, len(killed), outlook)
	return errors.Join(f.save(), announce(f.Failed))
}

// announce puts a message where the system's messages go.
func announce(text string) error {
	const critical = "<2>" // LOG_CRIT of syslog(3)
	return os.WriteFile("/dev/kmsg", []byte(critical+"kup: "+text+"\n"), 0)
}

// mourning finds the processes of an application, again and again. What it has once known as one of them it knows when that has ended: children that
// lose their parents meanwhile are still told.
type mourning struct {
	filling  *Filling
	known    map[Identity]bool // processes of the application, dead ones too
	programs map[string]bool   // what they execute
}

// living returns the processes of the application that live: those that were restored, the descendants of all that are known, and others with
// missing pages that execute the same program. Parents come first: killed in that order, they do not see their children die.
func (m *mourning) living() ([]int, error) {
	pids, err := procfs.Processes()
	if err != nil {
		return nil, err
	}
	for _, p := range m.filling.Processes {
		m.known[p.Identity] = true
	}
	stats := map[int]procfs.Stat{}
	for _, pid := range pids {
		if s, err := procfs.ReadStat(pid); err == nil {
			stats[pid] = s
		}
	}
	var all []int
	for pid, s := range stats {
		if !m.descends(pid, stats) && !(s.StartTime >= m.filling.Server.Start && m.programs[program(pid)] && lacksPages(pid)) {
			continue
		}
		m.known[Identity{pid, s.StartTime}] = true
		if s.Dead() {
			continue // dead, and only known for its children
		}
		if name := program(pid); name != "" {
			m.programs[name] = true
		}
		all = append(all, pid)
	}
	slices.SortFunc(all, func(a, b int) int { return cmp.Or(cmp.Compare(depth(a, stats), depth(b, stats)), cmp.Compare(a, b)) })
	return all, nil
}

// depth counts the ancestors of a process.
func depth(pid int, stats map[int]procfs.Stat) (n int) {
	for ; pid != 0; pid = stats[pid].PPID {
		n++
	}
	return n
}

// descends tells whether a process is known, or one of its ancestors.
func (m *mourning) descends(pid int, stats map[int]procfs.Stat) bool {
	for pid != 0 {
		s, exists := stats[pid]
		if !exists {
			return false
		}
		if m.known[Identity{pid, s.StartTime}] {
			return true
		}
		pid = s.PPID
	}
	return false
}

func program(pid int) string {
	path, err := os.Readlink(procfs.Path(pid, "exe"))
	if err != nil {
		return "" // a kernel thread, or it has ended
	}
	return path
}

// lacksPages tells whether a process has mappings that a userfaultfd watches for missing pages.
func lacksPages(pid int) bool {
	watched, err := watchedNow(pid)
	return err == nil && len(watched) > 0
}
