package vm

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/vm/trial"
	"github.com/kup-project/kup/internal/vm/vmtest"
)

// long tells whether tests are to try more, as in `make test-long`.
func long() bool { return os.Getenv("KUP_LONG_TESTS") != "" }

// start boots a guest on 6.1 that can be taken to 6.12 and back, unless other kernels are asked for. A guest keeps one processor busy, so as many tests run side by side
// as there are.
func start(t *testing.T, c trial.Config) *trial.Guest {
	t.Helper()
	t.Parallel()
	c.Dir = t.TempDir()
	if c.Lines == nil {
		c.Lines = []string{"6.1", "6.12"}
	}
	g, err := trial.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Close()
		if t.Failed() {
			text, err := os.ReadFile(g.Log)
			if err != nil {
				t.Error(err)
				return
			}
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			t.Logf("console, last lines:\n%s", strings.Join(lines[max(0, len(lines)-60):], "\n"))
		}
	})
	return g
}

// update takes the guest to another kernel and logs how long that took.
func update(t *testing.T, g *trial.Guest, line string, options ...string) *trial.Timeline {
	t.Helper()
	began := time.Now()
	timeline, err := g.Update(t.Context(), line, options...)
	if timeline != nil {
		for _, m := range timeline.Marks {
			t.Logf("%8.3f s  %s (%.2f s of uptime)", m.At.Sub(began).Seconds(), m.What, m.Uptime)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if want := vmtest.Kernel(t, line).Release; timeline.Release != want {
		t.Fatalf("the guest runs %s instead of %s", timeline.Release, want)
	}
	// What applications start from now on must not take IDs that the next kernel's system takes first.
	if last, err := strconv.Atoi(strings.TrimSpace(must(t, g, "cat", "/proc/sys/kernel/ns_last_pid"))); err != nil || last <= kernel.ReservedIDs {
		t.Errorf("the kernel gives the ID after %d, %v, expected one above %d", last, err, kernel.ReservedIDs)
	}
	return timeline
}

// updateWithTrouble takes the guest to another kernel, where not all goes well, and checks that kup boot has said what.
func updateWithTrouble(t *testing.T, g *trial.Guest, says, line string, options ...string) {
	t.Helper()
	if _, err := g.Update(t.Context(), line, options...); err == nil || !strings.Contains(err.Error(), "start-up") {
		t.Fatalf("update to %s: %v, expected trouble in the start-up", line, err)
	}
	console, err := os.ReadFile(g.Log)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(console), says) {
		t.Errorf("kup boot has not said %q", says)
	}
}

// must runs a command in the guest that must succeed.
func must(t *testing.T, g *trial.Guest, args ...string) string {
	t.Helper()
	out, err := g.Output(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// patience bounds every wait.
const patience = 2 * time.Minute

// eventually waits until condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}
