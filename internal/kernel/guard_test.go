package kernel

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestGuardActsOnDeath kills a process that has a guard. The guard must still have what the process had open, execute its program, and
// if that is not to be found kill whom it was told to.
func TestGuardActsOnDeath(t *testing.T) {
	const env = "KUP_TEST_GUARD"
	if program := os.Getenv(env); program != "" {
		dieWithGuard(t, program)
		return
	}
	for _, c := range []struct {
		name, program string
		killed        bool
	}{
		{"the program is there", "/bin/sh", false},
		{"there is no program", "/nonexistent/sh", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			victim := exec.Command("sleep", "1000")
			if err := victim.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() { victim.Wait(); close(ended) }()
			defer func() { victim.Process.Kill(); <-ended }()

			// The read end sees the end of file when nobody holds the write end any more.
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer read.Close()
			dying := exec.Command(os.Args[0], "-test.run=^TestGuardActsOnDeath$")
			dying.Env = append(os.Environ(), env+"="+c.program, fmt.Sprintf("KUP_TEST_VICTIM=%d", victim.Process.Pid))
			dying.ExtraFiles, dying.SysProcAttr = []*os.File{write}, NewSession()
			out, err := dying.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := dying.Start(); err != nil {
				t.Fatal(err)
			}
			write.Close()
			if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			killGroup(t, dying)
			said, err := io.ReadAll(read)
			if err != nil {
				t.Fatal(err)
			}
			if want := "buried"; !c.killed && strings.TrimSpace(string(said)) != want {
				t.Errorf("what the guard's program wrote to an inherited descriptor, expected %q, got %q", want, said)
			}
			if c.killed {
				select {
				case <-ended:
				case <-time.After(10 * time.Second):
					t.Error("the guard did not kill")
				}
			} else if Kill(victim.Process.Pid, 0) != nil {
				t.Error("the guard has killed although its program could be executed")
			}
		})
	}
}

func dieWithGuard(t *testing.T, program string) {
	var victim int
	if _, err := fmt.Sscan(os.Getenv("KUP_TEST_VICTIM"), &victim); err != nil {
		t.Fatal(err)
	}
	pidfd, err := PidfdOpen(victim)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewGuard([]string{program, "-c", "echo buried >&4"}, []int{pidfd}); err != nil {
		t.Fatal(err)
	}
	// Opened after the guard was made, and yet it has it: the table is shared.
	if err := DupTo(3, 4); err != nil {
		t.Fatal(err)
	}
	os.Stdout.WriteString("guarded\n")
	time.Sleep(time.Hour)
}

func TestGuardEndsQuietly(t *testing.T) {
	count := func() int {
		open, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(open)
	}
	before := count()
	for range 50 {
		g, err := NewGuard([]string{"/bin/false"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
