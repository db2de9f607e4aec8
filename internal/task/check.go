package task

import (
	"fmt"
	"os"
	"strings"

	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
)

// Check refuses processes with state that cannot be restored. The process may be running.
func Check(pid int) error {
	tids, err := procfs.Threads(pid)
	if err != nil {
		return fmt.Errorf("threads of pid %d: %w", pid, err)
	}
	for _, tid := range tids {
		st, err := procfs.ReadStatus(tid)
		if procfs.Gone(err) && tid != pid {
			continue // the thread has ended meanwhile
		}
		if err != nil {
			return fmt.Errorf("status of task %d: %w", tid, err)
		}
		if err := checkSeccomp(pid, &st); err != nil {
			return err
		}
		if tid == pid && st.State == 'Z' && len(tids) > 1 {
			return RefuseLeaderless(pid, st.Name)
		}
	}
	for _, link := range []string{"cwd", "root"} {
		if _, err := folder(pid, link); err != nil {
			return err
		}
	}
	return nil
}

// folder reads where a link of /proc/PID leads, and refuses what has been deleted.
func folder(pid int, link string) (string, error) {
	path, err := os.Readlink(procfs.Path(pid, link))
	if err == nil && strings.HasSuffix(path, " (deleted)") {
		err = refuse.Errorf("its directory %s has been deleted; let it change to another one", path)
	}
	if err != nil {
		return "", fmt.Errorf("pid %d: %s: %w", pid, link, err)
	}
	return path, nil
}

func checkSeccomp(pid int, st *procfs.Status) error {
	if st.Seccomp == 0 {
		return nil
	}
	return refuse.Errorf("pid %d (%s): thread %d runs under seccomp (mode %d), which cannot be checkpointed; start the application without a seccomp filter (systemd: SystemCallFilter=, RestrictAddressFamilies= and the like)",
		pid, st.Name, st.PID, st.Seccomp)
}

// RefuseLeaderless says that the first thread of a process has exited, and why that matters.
func RefuseLeaderless(pid int, name string) error {
	return refuse.Errorf("pid %d (%s): its main thread has exited while other threads live on, which cannot be checkpointed", pid, name)
}
