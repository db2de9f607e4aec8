package pageserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"

	"github.com/kup-project/kup/internal/procfs"
)

// Dir is where each page server keeps a file that says how far it is. It lies in memory: what it tells does not outlive a boot.
const Dir = "/run/kup/pages"

// Filling is what one page server is doing: the file of that name below Dir.
type Filling struct {
	Server    Identity  `json:"server"`
	Image     string    `json:"image"` // directory
	Processes []Process `json:"processes"`
	Lowest    uint64    `json:"lowest,omitempty"`   // with a Horizon: the physical address below which nothing is read any more
	Cause     string    `json:"cause,omitempty"`    // why the server ends too early: the undertaker is next
	Failed    string    `json:"failed,omitempty"`   // why the server has ended too early: the processes were killed
	InPlace   bool      `json:"in_place,omitempty"` // the memory is in page frames, which are bound only once: it ends with the processes
}

// Identity is a process, and no later one with the same ID.
type Identity struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start_time"` // field 22 of /proc/PID/stat, clock ticks since boot
}

// Process is how far a restored process is.
type Process struct {
	Identity
	Total uint64 `json:"total"` // bytes that were missing when it began to run
	Left  uint64 `json:"left"`  // bytes still missing
}

// identify returns the identity of a process that exists.
func identify(pid int) (Identity, error) {
	s, err := procfs.ReadStat(pid)
	return Identity{pid, s.StartTime}, err
}

// alive tells whether the process exists and is no zombie.
func (i Identity) alive() bool {
	s, err := procfs.ReadStat(i.PID)
	return err == nil && s.StartTime == i.Start && s.State != 'Z' && s.State != 'X'
}

// Done and Total are bytes over all processes.
func (f *Filling) Done() (done, total uint64) {
	for _, p := range f.Processes {
		done += p.Total - p.Left
		total += p.Total
	}
	return done, total
}

// String says how far it is.
func (f *Filling) String() string {
	done, total := f.Done()
	return fmt.Sprintf("still being filled by pid %d: %d of %d MB", f.Server.PID, done>>20, total>>20)
}

func (f *Filling) path() string { return filepath.Join(Dir, fmt.Sprintf("%d.json", f.Server.PID)) }

// save replaces the file.
func (f *Filling) save() error {
	if err := os.MkdirAll(Dir, 0o700); err != nil {
		return err
	}
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return renameio.WriteFile(f.path(), data, 0o600)
}

func load(path string) (*Filling, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f := &Filling{}
	if err := json.Unmarshal(data, f); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// List returns what all page servers are doing, and what those have left that failed.
func List() ([]*Filling, error) {
	paths, err := filepath.Glob(filepath.Join(Dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var all []*Filling
	for _, path := range paths {
		f, err := load(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has come to its end
		}
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

// Find returns the server that fills a running process, or one that it descends from.
func Find(pid int) (*Filling, error) {
	all, err := List()
	if err != nil || len(all) == 0 {
		return nil, err
	}
	for pid != 0 {
		s, err := procfs.ReadStat(pid)
		if err != nil {
			return nil, nil // it has ended
		}
		id := Identity{pid, s.StartTime}
		i := slices.IndexFunc(all, func(f *Filling) bool {
			return f.Failed == "" && slices.ContainsFunc(f.Processes, func(p Process) bool { return p.Identity == id })
		})
		if i >= 0 {
			return all[i], nil
		}
		pid = s.PPID
	}
	return nil, nil
}

// Failed returns the server that should have filled the process that had an ID, and did not.
func Failed(pid int) (*Filling, error) {
	return find(func(f *Filling) bool {
		return f.Failed != "" && slices.ContainsFunc(f.Processes, func(p Process) bool { return p.PID == pid })
	})
}

// Using returns the server that fills from the image in a directory.
func Using(dir string) (*Filling, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	return find(func(f *Filling) bool { return f.Image == dir && f.Failed == "" && f.Server.alive() })
}

// Binding returns a server that is still at work on page frames, nil if there is none.
func Binding() (*Filling, error) {
	return find(func(f *Filling) bool { return f.InPlace && f.Failed == "" && f.Server.alive() })
}

// unfinished returns the server that fills a process, or has filled it until that ended, as long as it is not known what became of that.
func unfinished(pid int) (*Filling, error) {
	f, err := Find(pid)
	if err != nil || f != nil {
		return f, err
	}
	if _, err := procfs.ReadStat(pid); err == nil {
		return nil, nil
	}
	return find(func(f *Filling) bool {
		return f.Failed == "" && slices.ContainsFunc(f.Processes, func(p Process) bool { return p.PID == pid })
	})
}

func find(match func(*Filling) bool) (*Filling, error) {
	all, err := List()
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(all, match); i >= 0 {
		return all[i], nil
	}
	return nil, nil
}

// ForgetGone removes what failed servers have left of images that are gone, and gives their undertakers time to come to their end.
func ForgetGone() error {
	const pause, patience = 10 * time.Millisecond, 10 * time.Second
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		if err := forget(nil); err != nil {
			return err
		}
		burying, err := find(func(f *Filling) bool { return f.imageGone() && f.Failed == "" && !f.Server.alive() })
		if err != nil || burying == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func (f *Filling) imageGone() bool {
	_, err := os.Stat(f.Image)
	return errors.Is(err, fs.ErrNotExist)
}

// forget removes what failed servers have left of processes that are restored anew, and of images that are gone.
func forget(processes []Process) error {
	all, err := List()
	if err != nil {
		return err
	}
	for _, f := range all {
		same := slices.ContainsFunc(f.Processes, func(old Process) bool {
			return slices.ContainsFunc(processes, func(p Process) bool { return p.PID == old.PID })
		})
		if (same || f.Failed != "" && f.imageGone()) && !f.Server.alive() {
			if err := os.Remove(f.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
