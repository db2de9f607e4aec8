package vm

import (
	"strings"
	"testing"

	"github.com/kup-project/kup/internal/vm/trial"
)

// TestFallback leaves memory where it is, with a copy on the disk, and then the next kernel cannot use it: because it does not take the module, or because it is gone.
func TestFallback(t *testing.T) {
	static := []string{"-static"}
	all := []program{
		{name: "crowd", source: "memory/crowd.c", flags: static, args: []string{"96"}},
		{name: "memfds", source: "memory/memfds.c", flags: static},
		{name: "go", source: "golang"},
	}
	files := build(t, all)
	buildModules(t, files, "6.1", "6.12")
	g := start(t, trial.Config{Files: files, MemoryMB: 2048})
	for _, p := range all {
		p.start(t, g)
		p.stepBack(t, g)
	}
	check := func(t *testing.T, why string) {
		t.Helper()
		journal, err := g.Journal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range journal.Applications {
			if !a.Restored || !strings.Contains(a.Fallback, why) {
				t.Errorf("restored %v, by the fallback because of %q, expected %q: %s", a.Restored, a.Fallback, why, a.Error)
			}
		}
		for _, p := range all {
			if log := p.log(t, g); strings.Contains(log, "FAIL") || !p.running(t, g) {
				t.Fatalf("%s: %s", p.name, log)
			}
		}
		if left := must(t, g, "sh", "-c", "find /data/kup/images -mindepth 2 -maxdepth 2"); left != "" {
			t.Errorf("images are left behind: %s", left)
		}
	}
	frames := func(line string) []string {
		return []string{"--carrier", "frames", "--module", module(line), "--keep-fallback"}
	}
	t.Run("not needed", func(t *testing.T) {
		update(t, g, "6.12", frames("6.12")...)
		check(t, "")
	})
	t.Run("power cut", func(t *testing.T) {
		cutAt(t, g, "jump", "6.12", frames("6.12")...)
		check(t, "is gone")
	})
	t.Run("the module is not taken", func(t *testing.T) {
		update(t, g, "6.12", "--carrier", "frames=module", "--module", module("6.12"), "--append", "module_blacklist=kup_frames")
		check(t, "")
		if journal, err := g.Journal(t.Context()); err != nil || journal.Carrier != "frames=copy" {
			t.Errorf("carrier %v, %v", journal, err)
		}
	})
	t.Run("neither module nor another start", func(t *testing.T) {
		updateWithTrouble(t, g, "memory stays reserved", "6.12", append(frames("6.12"), "--append", "sysctl.kernel.kexec_load_disabled=1")...)
		check(t, "kup's module")
	})
	for _, p := range all {
		t.Run(p.name, func(t *testing.T) { p.finish(t, g) })
	}
}
