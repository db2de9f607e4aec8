package object

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// targetVariable makes the test binary a target: a process that holds objects for the tests to capture. Its value is the
// name of the scene to set.
const targetVariable = "KUP_OBJECT_TARGET"

func TestMain(m *testing.M) {
	if name := os.Getenv(targetVariable); name != "" {
		runTarget(name)
	}
	// Whatever started the tests may have left descriptors open; targets are to hold their scene only.
	if err := kernel.CloseOnExecFrom(3); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// runTarget sets the scene and stays, until the tests kill it.
func runTarget(name string) {
	set, ok := scenes[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "there is no scene %q\n", name)
		os.Exit(2)
	}
	report := os.NewFile(3, "report")
	set()
	fmt.Fprint(report, "ready")
	report.Close()
	time.Sleep(2 * time.Minute) // longer than any test; if they are killed, the target ends all the same
	os.Exit(0)
}

// must is for scenes: a target has nobody to report to but its standard error.
func must[T any](v T, err error) T {
	ok(err)
	return v
}

func ok(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "target:", err)
		os.Exit(1)
	}
}

// startTarget starts a target in a directory of its own and waits until its scene is set.
func startTarget(t *testing.T, scene string) (pid int, dir string) {
	t.Helper()
	dir = t.TempDir()
	report, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer report.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), targetVariable+"="+scene)
	log, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = log
	cmd.ExtraFiles = []*os.File{write}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		log.Close()
	})
	write.Close()
	said, err := io.ReadAll(report) // to the end: then the target has closed its side
	if string(said) != "ready" {
		messages, _ := os.ReadFile(log.Name())
		t.Fatalf("target %s said %q (%v)\n%s", scene, said, err, messages)
	}
	return cmd.Process.Pid, dir
}

// captureTarget captures processes as if they were frozen: targets do nothing by themselves.
func captureTarget(t *testing.T, pids ...int) (*Capture, error) {
	t.Helper()
	c := &Capture{
		State:        &image.State{},
		Dir:          t.TempDir(),
		SharedMemory: func(int, string) (int, error) { return 1, nil },
		Hush:         &Hush{},
	}
	for _, pid := range pids {
		c.State.Processes = append(c.State.Processes, image.Process{PID: pid, Comm: "target"})
	}
	defer c.Hush.End()
	defer c.Release()
	for _, do := range []func() error{func() error { return c.Take(pids) }, c.CheckFrozen, c.Capture} {
		if err := do(); err != nil {
			return c, err
		}
	}
	return c, nil
}

// endTarget kills a target and waits until all that it held is released.
func endTarget(t *testing.T, pid int) {
	t.Helper()
	if err := kernel.Kill(pid, kernel.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, _, err := kernel.Wait(pid, false); err != nil {
		t.Fatal(err)
	}
}
