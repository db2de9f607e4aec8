package vm

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/vm/trial"
	"github.com/kup-project/kup/internal/vm/vmtest"
)

// long tells whether tests are to try more, as in `make test-long`.
func long() bool { return os.Getenv("KUP_LONG_TESTS") != "" }

// start boots a guest on 6.1 that can be taken to 6.12 and back, unless other kernels are asked for.
func start(t *testing.T, c trial.Config) *trial.Guest {
	t.Helper()
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
	return timeline
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
