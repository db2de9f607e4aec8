package object

import (
	"os"
	"os/exec"
	"testing"
)

// TestFamily looks at a process that was born after the others were listed.
func TestFamily(t *testing.T) {
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		child.Process.Kill()
		child.Wait()
	})
	c := &Capture{pids: []int{os.Getpid()}}
	inside := c.family()
	for pid, want := range map[int]bool{os.Getpid(): true, child.Process.Pid: true, os.Getppid(): false, 1: false} {
		if got := inside(pid); got != want {
			t.Errorf("pid %d belongs to the application: %v, want %v", pid, got, want)
		}
	}
}
