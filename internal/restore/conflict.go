package restore

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
)

// ErrConflict says that a name which the application needs (a process ID, an address, a System V id) belongs to somebody else now.
var ErrConflict = errors.New("conflict")

// conflict is an error that matches ErrConflict.
type conflict struct{ error }

func (c conflict) Is(target error) bool { return target == ErrConflict }
func (c conflict) Unwrap() error        { return c.error }

// taken makes a conflict of an error that is about a process ID which was free a moment ago.
func taken(err error) error {
	if errors.Is(err, kernel.EEXIST) {
		return conflict{err}
	}
	return err
}

// checkIDs makes sure that all process and thread IDs are free.
func checkIDs(st *image.State, p *plan) error {
	for i := range st.Processes {
		proc := &st.Processes[i]
		if err := checkID(proc.PID, fmt.Sprintf("process %d (%s)", proc.PID, proc.Comm)); err != nil {
			return err
		}
		for _, t := range proc.Threads {
			if err := checkID(t.TID, fmt.Sprintf("thread %d of process %d (%s)", t.TID, proc.PID, proc.Comm)); err != nil {
				return err
			}
		}
	}
	for _, lost := range []map[int]bool{p.lostSessions, p.lostGroups} {
		for id := range lost {
			if err := checkID(id, fmt.Sprintf("session or process group %d", id)); err != nil {
				return err
			}
		}
	}
	return nil
}

// ErrOwnID says that the kernel has given kup itself an ID that the application needs. Another kup gets another one.
var ErrOwnID = errors.New("the ID was given to this very kup by chance; run the command again")

func ownTask(id int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", id))
	return err == nil
}

// reapTime is how long a process that has ended may still have its ID: not every init reaps at once, and the application itself may have
// been ended a moment ago.
const reapTime = 5 * time.Second

func checkID(id int, what string) error {
	for deadline := time.Now().Add(reapTime); ; time.Sleep(5 * time.Millisecond) {
		st, err := procfs.ReadStat(id)
		if err != nil {
			return nil
		}
		if ownTask(id) {
			return conflict{fmt.Errorf("%s cannot be restored: %w", what, ErrOwnID)}
		}
		if st.State != 'Z' || time.Now().After(deadline) {
			return conflict{fmt.Errorf("%s cannot be restored: the ID is taken by pid %d (%s); end that process, or restore where the ID is free", what, id, st.Comm)}
		}
	}
}
