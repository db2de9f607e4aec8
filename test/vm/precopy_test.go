package vm

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/kup-project/kup/internal/checkpoint"
	"github.com/kup-project/kup/internal/memory"
	"github.com/kup-project/kup/internal/vm/trial"
)

// TestSoftDirtyMissesNoWrite lets kup compare every page with its copy where written pages are found by soft-dirty bits, which moved page tables and huge zero
// pages do not have.
func TestSoftDirtyMissesNoWrite(t *testing.T) {
	p := program{name: "hugepages", source: "memory/hugepages.c", flags: []string{"-static"}}
	g := start(t, trial.Config{Files: build(t, []program{p})})
	p.start(t, g)
	const checkpoints = 8
	for range checkpoints {
		must(t, g, "kup", "checkpoint", p.name, "--dir", "/tmp/image", "--precopy", "--paranoid", "--leave-running")
		must(t, g, "kup", "rm", "/tmp/image")
	}
	p.finish(t, g)
}

// TestPrecopyCopiesOnlyWhatIsWritten lets a program write to a few pages of many huge pages: only these are copied again, whichever way the kernel tells them.
func TestPrecopyCopiesOnlyWhatIsWritten(t *testing.T) {
	p := program{name: "hotset", source: "memory/hotset.c", flags: []string{"-static"}}
	g := start(t, trial.Config{Files: build(t, []program{p})})
	p.start(t, g)
	must(t, g, "touch", p.dir()+"/warm")
	if huge := must(t, g, "sh", "-c", "grep -c 'AnonHugePages: *[1-9]' /proc/$(pidof hotset)/smaps"); huge == "0\n" {
		t.Fatal("the program has no huge pages")
	}
	p.precopy(t, g, "soft-dirty")
	r, err := g.Run(t.Context(), "kup", "checkpoint", p.name, "--dir", "/tmp/image", "--precopy", "--tracking", "wp-async", "--leave-running")
	if err != nil || r.ExitCode != exitRefused || !strings.Contains(r.Stderr, "wp-async") {
		t.Errorf("6.1 has no wp-async: %+v, %v", r, err)
	}
	update(t, g, "6.12", "--carrier", "ram")
	p.precopy(t, g, "wp-async")
	p.precopy(t, g, "soft-dirty", "--tracking", "soft-dirty")
	p.finish(t, g)
}

// precopy takes a checkpoint of hotset, and looks at what was copied.
func (p program) precopy(t *testing.T, g *trial.Guest, want memory.Backend, options ...string) {
	t.Helper()
	var r struct{ Precopy checkpoint.PrecopyReport }
	command := append([]string{"kup", "checkpoint", p.name, "--dir", "/tmp/image", "--precopy", "--paranoid", "--leave-running", "--json"}, options...)
	if err := json.Unmarshal([]byte(must(t, g, command...)), &r); err != nil {
		t.Fatal(err)
	}
	must(t, g, "kup", "rm", "/tmp/image")
	t.Logf("%+v", r.Precopy)
	if r.Precopy.Backend != want {
		t.Errorf("written pages were found by %s, want %s", r.Precopy.Backend, want)
	}
	const hot, all = 64, 32 << 10 // pages
	if r.Precopy.Rounds[0].Pages < all {
		t.Errorf("the first round has copied %d pages of %d", r.Precopy.Rounds[0].Pages, all)
	}
	for _, round := range append(r.Precopy.Rounds[1:], checkpoint.Round{Pages: r.Precopy.Left / 4096}) {
		if round.Pages > 20*hot {
			t.Errorf("%d pages are written, and the program writes to %d", round.Pages, hot)
		}
	}
}
