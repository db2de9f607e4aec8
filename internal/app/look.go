package app

import (
	"errors"
	"fmt"
	"time"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/pageserver"
	"github.com/kup-project/kup/internal/procfs"
)

// Status is what is known of an application at this moment.
type Status struct {
	Name      string    `json:"name"`
	PID       int       `json:"pid"`
	State     State     `json:"state"`
	Since     time.Time `json:"since"`
	Processes int       `json:"processes"` // of its tree, zombies included; 0 unless it runs
	Memory    uint64    `json:"memory"`    // resident, bytes; memory that processes share counts in each of them
	Argv      []string  `json:"argv"`
	Log       string    `json:"log,omitempty"`
	Image     string    `json:"image,omitempty"`
	Filling   *Filling  `json:"filling,omitempty"` // nil unless a page server brings its memory back
	Failure   string    `json:"failure,omitempty"` // why kup itself has ended it
}

// Filling is how far a page server is.
type Filling struct {
	Server int    `json:"server"` // process ID
	Done   uint64 `json:"done"`   // bytes
	Total  uint64 `json:"total"`  // bytes that were missing when the application began to run
}

// lookAtPages asks the page servers about an application. What cannot be read is not known.
func (s *Status) lookAtPages() {
	if f, err := pageserver.Find(s.PID); err == nil && f != nil && s.Processes > 0 {
		done, total := f.Done()
		s.Filling = &Filling{f.Server.PID, done, total}
	}
	if f, err := pageserver.Failed(s.PID); err == nil && f != nil && s.State == Ended {
		s.Failure = f.Failed
	}
}

// Alive tells whether the process at the root of an application is the one that was recorded, and lives.
func Alive(r *Record) bool {
	_, ok := stat(r)
	return ok
}

func stat(r *Record) (procfs.Stat, bool) {
	if boot, err := bootID(); err != nil || boot != r.Boot || r.PID == 0 {
		return procfs.Stat{}, false
	}
	s, err := procfs.ReadStat(r.PID)
	return s, err == nil && s.StartTime == r.Start && s.State != 'Z' && s.State != 'X'
}

// Look compares a record with /proc.
func Look(r *Record) Status {
	status := Status{
		Name: r.Name, PID: r.PID, State: r.State, Since: r.Since, Argv: r.Argv, Log: r.Log, Image: r.Image,
	}
	s, alive := stat(r)
	switch {
	case alive && s.State == 'T':
		status.State = Stopped
	case alive && r.State != Restoring:
		status.State = Running
	case !alive && r.State == Running:
		status.State = Ended
	}
	if alive {
		members := Tree(r.PID)
		status.Processes = len(members)
		for _, pid := range members {
			if m, err := procfs.ReadStatus(pid); err == nil { // else it has ended since
				status.Memory += m.VMRSS
			}
		}
	}
	status.lookAtPages()
	return status
}

// Status looks at all applications, by name.
func (s *Store) Status() ([]Status, error) {
	records, err := s.List()
	if err != nil {
		return nil, err
	}
	all := make([]Status, 0, len(records))
	for _, r := range records {
		status := Look(r)
		if status.State == Restoring && !s.busy(r.Name) {
			status.State = Checkpointed // the kup that was restoring it has died; the image is as good as before
		}
		all = append(all, status)
	}
	return all, nil
}

// busy tells whether a kup command is working on an application.
func (s *Store) busy(name string) bool {
	l, err := s.Lock(name)
	if err != nil {
		return errors.Is(err, ErrBusy)
	}
	l.Unlock()
	return false
}

// Tree returns a process and its descendants, parents before children. While they fork, some may be missed.
func Tree(root int) []int {
	pids, err := procfs.Processes()
	if err != nil {
		return []int{root}
	}
	children := map[int][]int{}
	for _, pid := range pids {
		if s, err := procfs.ReadStat(pid); err == nil { // else it has ended since
			children[s.PPID] = append(children[s.PPID], pid)
		}
	}
	tree := []int{root}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	return tree
}

// Root returns the pid of a running application.
func (l *Locked) Root() (int, error) {
	if !Alive(l.Record) {
		return 0, fmt.Errorf("%s: %w: kup ps says %s", l.Name, ErrNotRunning, Look(l.Record).State)
	}
	return l.PID, nil
}

// Outcome is how an application came to its end.
type Outcome struct {
	Code  int    // as a shell counts: the exit code, or 128 and the signal's number
	Image string // where it was checkpointed to, if that is how it ended
}

// Outcome tells why a process that was an application's root has ended. A checkpoint that ended it is let finish its record first.
func (s *Store) Outcome(name string, pid int, status kernel.WaitStatus) (Outcome, error) {
	outcome := Outcome{Code: kernel.ExitCode(status)}
	l, err := s.LockWaiting(name)
	if errors.Is(err, ErrUnknown) {
		return outcome, nil // removed right after it had ended
	}
	if err != nil {
		return outcome, err
	}
	defer l.Unlock()
	switch {
	case l.PID != pid:
		// Another one has taken the name.
	case l.State == Checkpointed:
		outcome = Outcome{Image: l.Image}
	case l.State == Running && !Alive(l.Record):
		l.set(Ended)
		return outcome, l.Save()
	}
	return outcome, nil
}
