package vm

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/vm"
	"github.com/kup-project/kup/internal/vm/trial"
)

// TestApplicationsStartAfreshAfterPowerCut pulls the guest's plug.
func TestApplicationsStartAfreshAfterPowerCut(t *testing.T) {
	g := start(t, trial.Config{})
	must(t, g, "kup", "run", "-d", "--name", "runs", "--", "sh", "-c", "echo started >>/data/runs; exec sleep 100000")
	must(t, g, "kup", "run", "-d", "--name", "ended", "--", "sh", "-c", "echo started >>/data/ended")
	eventually(t, "the end of an application", func() bool {
		return strings.Contains(must(t, g, "kup", "ps"), "ended") && must(t, g, "sh", "-c", "cat /data/runs; sync") == "started\n"
	})
	must(t, g, "sh", "-c", "kup rm ended && sync")
	if err := g.PowerCut(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second start", func() bool { return must(t, g, "cat", "/data/runs") == "started\nstarted\n" })
	if states := must(t, g, "kup", "ps"); strings.Count(states, "running") != 1 {
		t.Errorf("after the power cut:\n%s", states)
	}
	if again := must(t, g, "sh", "-c", "ls "+vm.DiskMount+"/ended && wc -l <"+vm.DiskMount+"/ended"); !strings.HasSuffix(again, "1\n") {
		t.Errorf("an application that had ended was started again: %s", again)
	}
}

// TestPowerCutAtAnyMoment pulls the guest's plug at each step of updates that leave memory where it is, and keep nothing on the disk.
func TestPowerCutAtAnyMoment(t *testing.T) {
	big := program{name: "big", source: "memory/big.c", flags: []string{"-static"}, args: []string{"120"}}
	files := build(t, []program{big})
	buildModules(t, files, "6.12")
	addDAX(t, files, "6.12")
	g := start(t, trial.Config{Files: files, MemoryMB: 2048})
	big.start(t, g)
	starts := 1
	moments := []string{"loaded", "frozen", "captured", "jump", "init started", "silent", "restored big", "filled big"}
	rounds := 1
	if long() {
		rounds = 6 // what is under way at a moment is not always the same
	}
	for round := range rounds {
		for i, moment := range moments {
			w := []way{bound, copied}[(round+i)%2]
			t.Run(w.carrier+", "+moment, func(t *testing.T) {
				must(t, g, "sync")
				cutAt(t, g, moment, "6.12", w.options("6.12")...)
				starts++
				eventually(t, "big to start afresh", func() bool { return big.running(t, g) && strings.Count(big.log(t, g), "ready\n") == starts })
				forgotten(t, g)
			})
		}
	}
	big.finish(t, g)
}

// forgotten checks that a guest whose applications were not restored has nothing left of their images, and all of its memory.
func forgotten(t *testing.T, g *trial.Guest) {
	t.Helper()
	if left := must(t, g, "sh", "-c", "find /data/kup/images -mindepth 2 -maxdepth 2; grep offline /sys/devices/system/memory/memory*/state; true"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

// cutAt begins an update and pulls the guest's plug when a step is reached whose name begins so.
func cutAt(t *testing.T, g *trial.Guest, step, line string, options ...string) {
	t.Helper()
	before := len(g.Marks())
	ended := make(chan error, 1)
	go func() {
		_, err := g.Update(t.Context(), line, options...)
		ended <- err
	}()
	for !slices.ContainsFunc(g.Marks()[before:], func(m vm.Mark) bool { return strings.HasPrefix(m.What, step) }) {
		select {
		case err := <-ended:
			t.Fatalf("the update ended without having reached %q: %v", step, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	if err := g.PowerCut(t.Context()); err != nil {
		t.Fatal(err)
	}
}
