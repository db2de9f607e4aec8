package vm

import (
	"testing"

	"github.com/kup-project/kup/internal/vm/trial"
)

// TestSoftDirtyMissesNoWrite lets kup compare every page with its copy where written pages are found by soft-dirty bits, which moved page tables and huge zero
// pages do not have.
func TestSoftDirtyMissesNoWrite(t *testing.T) {
	p := program{name: "hugepages", source: "memory/hugepages.c", flags: []string{"-static"}}
	g := start(t, trial.Config{Files: build(t, []program{p})})
	p.start(t, g)
	const checkpoints = 15
	for range checkpoints {
		must(t, g, "kup", "checkpoint", p.name, "--dir", "/tmp/image", "--precopy", "--paranoid", "--leave-running")
		must(t, g, "kup", "rm", "/tmp/image")
	}
	p.finish(t, g)
}
