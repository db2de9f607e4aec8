package checkpoint

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/memory"
	"github.com/kup-project/kup/internal/object"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
	"github.com/kup-project/kup/internal/task"
	"github.com/kup-project/kup/internal/tracee"
)

// checkSettled repeats the check until it succeeds, or fails in the same way for a while: a running application forks, and opens and closes
// things while it is looked at, so that what is said of it may be true of no instant, or of many short ones. What cannot be checkpointed is still there
// whenever it is looked at.
func (s *Session) checkSettled() error {
	const lasting, pause, patience = 300 * time.Millisecond, 10 * time.Millisecond, 5 * time.Second
	began := time.Now()
	last, since := "", began
	for {
		err := s.check()
		if err == nil {
			return nil
		}
		if err.Error() != last {
			last, since = err.Error(), time.Now()
		}
		if time.Since(since) > lasting || time.Since(began) > patience {
			return err
		}
		time.Sleep(pause)
	}
}

// check looks at the running application.
func (s *Session) check() error {
	tree, err := tracee.Check([]int{s.options.Root})
	if err != nil {
		return err
	}
	var pids []int
	need := int64(0)
	for _, p := range tree {
		if p.Zombie {
			continue
		}
		if err := checkProcess(p.PID); err != nil {
			if hasEnded(p.PID) || errors.Is(err, kernel.ESRCH) {
				continue
			}
			return err
		}
		pids = append(pids, p.PID)
		if st, err := procfs.ReadStatus(p.PID); err == nil {
			need += int64(st.VMRSS)
		}
	}
	if len(pids) == 0 {
		return refuse.Errorf("pid %d has ended and only waits for its parent to notice: there is nothing to checkpoint", s.options.Root)
	}
	// What passes is waited for by freezeSettled.
	if err := object.Check(pids); err != nil && !refuse.Passing(err) {
		return err
	}
	return s.checkSpace(need)
}

func checkProcess(pid int) error {
	if err := task.Check(pid); err != nil {
		return err
	}
	return memory.Check(pid)
}

// hasEnded tells whether a process is gone, or is only there for its parent to see. Errors about it mean nothing then; nor does ESRCH, which is said of one
// that has given its memory back and is about to be seen so.
func hasEnded(pid int) bool {
	st, err := procfs.ReadStat(pid)
	return err != nil || st.Dead()
}

// checkSpace refuses what will hardly fit, by the memory that the application has resident. Page frames are not the file system's business.
func (s *Session) checkSpace(need int64) error {
	parent := filepath.Dir(filepath.Clean(s.options.Dir))
	if _, err := os.Stat(parent); err != nil {
		return fmt.Errorf("image directory %s: %w", s.options.Dir, err)
	}
	free, err := kernel.FreeSpace(parent)
	if err != nil {
		return err
	}
	inFiles := s.options.Frames == nil || s.options.Fallback
	if inFiles && free >= 0 && free < need {
		return refuse.Errorf("the application has %d MB of memory, and the file system of %s has %d MB free; make room or choose another directory",
			need>>20, parent, free>>20)
	}
	return nil
}
