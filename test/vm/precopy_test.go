package vm

import (
	"encoding/json"
	"testing"

	"github.com/kup-project/kup/internal/checkpoint"
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

// TestSoftDirtyTellsPagesOfHugePages lets a program write to a few pages of many huge pages: only these are written, and copied again.
func TestSoftDirtyTellsPagesOfHugePages(t *testing.T) {
	p := program{name: "hotset", source: "memory/hotset.c", flags: []string{"-static"}}
	g := start(t, trial.Config{Files: build(t, []program{p})})
	p.start(t, g)
	must(t, g, "touch", p.dir()+"/warm")
	if huge := must(t, g, "sh", "-c", "grep -c 'AnonHugePages: *[1-9]' /proc/$(pidof hotset)/smaps"); huge == "0\n" {
		t.Fatal("the program has no huge pages")
	}
	var r struct{ Precopy checkpoint.PrecopyReport }
	if err := json.Unmarshal([]byte(must(t, g, "kup", "checkpoint", p.name, "--dir", "/tmp/image", "--precopy", "--paranoid", "--leave-running", "--json")), &r); err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", r.Precopy)
	const hot, all = 64, 32 << 10 // pages
	if r.Precopy.Rounds[0].Pages < all {
		t.Errorf("the first round has copied %d pages of %d", r.Precopy.Rounds[0].Pages, all)
	}
	for _, round := range append(r.Precopy.Rounds[1:], checkpoint.Round{Pages: r.Precopy.Left / 4096}) {
		if round.Pages > 20*hot {
			t.Errorf("%d pages are written, and the program writes to %d", round.Pages, hot)
		}
	}
	p.finish(t, g)
}
