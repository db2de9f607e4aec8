package tracee

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/kernel"
)

// program compiles a C program of testdata once per test.
func program(t *testing.T, name string, flags ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	args := append([]string{"-O2", "-Wall", "-Werror", "-pthread", "-o", out, "testdata/" + name + ".c"}, flags...)
	if text, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		t.Fatalf("gcc %v: %v\n%s", args, err, text)
	}
	return out
}

// start starts a program that says "ready" and ends it with the test.
func start(t *testing.T, path string, args ...string) (pid int) {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = kernel.NewSession()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		kernel.Kill(-cmd.Process.Pid, kernel.SIGKILL) // with all its children
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("%s said %q, %v", path, line, err)
	}
	return cmd.Process.Pid
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func freeze(t *testing.T, tracer *Tracer, pid int) *Frozen {
	t.Helper()
	f, err := tracer.Freeze(within(t, 10*time.Second), []int{pid})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestInjectionExecutesSystemCalls(t *testing.T) {
	path := program(t, "spin")
	for _, mode := range []string{"spin", "clock", "pause", "poll"} {
		t.Run(mode, func(t *testing.T) {
			pid := start(t, path, mode)
			tracer := New()
			defer tracer.Close()
			for range 20 {
				f := freeze(t, tracer, pid)
				task := f.Processes[0].Tasks[0]
				i, err := task.Inject(4096)
				if err != nil {
					t.Fatal(err)
				}
				for range 3 {
					b := NewBatch(i)
					getpid := b.Call(kernel.SysGetpid)
					gettid := b.Call(kernel.SysGettid)
					if err := b.Run(); err != nil {
						t.Fatal(err)
					}
					if getpid.Value() != int64(pid) || gettid.Value() != int64(pid) {
						t.Fatalf("getpid %d, gettid %d, want %d", getpid.Value(), gettid.Value(), pid)
					}
				}
				if err := i.Close(); err != nil {
					t.Fatal(err)
				}
				if err := f.Thaw(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
