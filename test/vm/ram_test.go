package vm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kup-project/kup/internal/vm/trial"
)

// TestMemoryTravelsInRAM takes programs from kernel to kernel in page frames that the next one leaves alone, and looks whether it has all of its memory afterwards.
func TestMemoryTravelsInRAM(t *testing.T) {
	static := []string{"-static"}
	travellers := []program{
		{name: "static", source: "task/basic.c", flags: static},
		{name: "neighbours", source: "memory/neighbours.c", flags: static},
		{name: "memfds", source: "memory/memfds.c", flags: static},
	}
	g := start(t, trial.Config{Files: build(t, travellers), MemoryMB: 2048})
	for _, p := range travellers {
		p.start(t, g)
	}
	before := memTotal(t, g)
	for _, step := range []struct{ line, more string }{{"6.12", ""}, {"6.1", ""}, {"6.12", "kup.boot=--eager"}} {
		update(t, g, step.line, "--carrier", "ram", "--append", step.more)
		journal, err := g.Journal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if journal.Carrier != "ram" {
			t.Errorf("carried by %s: %s", journal.Carrier, journal.CarrierWhy)
		}
		t.Log(journal.CarrierWhy)
		for _, p := range travellers {
			if log := p.log(t, g); strings.Contains(log, "FAIL") || !p.running(t, g) {
				t.Fatalf("%s, after the update to %s: %s", p.name, step.line, log)
			}
		}
		// The kernels themselves differ by a few MB.
		if now := memTotal(t, g); now < before-before/50 {
			t.Errorf("the guest has %d kB of memory instead of %d", now, before)
		}
	}
	for _, p := range travellers {
		p.finish(t, g)
	}
}

// TestApplicationsStartAfreshIfRAMIsLost pulls the guest's plug when memory is on its way.
func TestApplicationsStartAfreshIfRAMIsLost(t *testing.T) {
	files := map[string]string{}
	buildModules(t, files, "6.12")
	addDAX(t, files, "6.12")
	g := start(t, trial.Config{Files: files, MemoryMB: 1536})
	must(t, g, "kup", "run", "-d", "--name", "runs", "--", "sh", "-c", "echo started >>/data/runs; exec sleep 100000")
	starts := "started\n"
	eventually(t, "the start", func() bool { return must(t, g, "sh", "-c", "cat /data/runs; sync") == starts })
	for _, carrier := range []string{"ram", "frames=module", "frames=copy"} {
		cutAt(t, g, "jump", "6.12", "--carrier", carrier, "--module", module("6.12"))
		starts += "started\n"
		eventually(t, "the next start", func() bool { return must(t, g, "sh", "-c", "cat /data/runs; sync") == starts })
		journal, err := g.Journal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if a := journal.Applications[0]; a.Restored || journal.Phase != "aborted" || string(journal.Carrier) != carrier {
			t.Errorf("phase %s, carrier %s: %+v", journal.Phase, journal.Carrier, a)
		}
		if left := must(t, g, "sh", "-c", "find /data/kup/images /run/kup/update -name manifest 2>/dev/null; true"); left != "" {
			t.Errorf("images are left behind: %s", left)
		}
	}
}

// memTotal is the memory that the guest's kernel has, kB.
func memTotal(t *testing.T, g *trial.Guest) (kb int64) {
	t.Helper()
	text := must(t, g, "cat", "/proc/meminfo")
	if _, err := fmt.Sscanf(text, "MemTotal: %d kB", &kb); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return kb
}
