package vm

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/kup-project/kup/internal/kmod"
	"github.com/kup-project/kup/internal/vm"
	"github.com/kup-project/kup/internal/vm/trial"
	"github.com/kup-project/kup/internal/vm/vmtest"
)

// module is where the guest has kup's module for a line of kernels.
func module(line string) string { return "/usr/lib/kup-test/kup-frames-" + line + ".ko" }

// buildModules builds kup's module for the kernels, and adds it to what the guest is to have.
func buildModules(t *testing.T, files map[string]string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		k, err := vm.FindKernel(line)
		if err != nil {
			t.Fatal(err)
		}
		headers, err := vm.FindHeaders(k)
		if err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(t.TempDir(), "kup-frames.ko")
		if _, err := kmod.Build(t.Context(), kmod.Options{Release: k.Release, Image: k.Image, Headers: headers, Out: out}); err != nil {
			t.Fatal(err)
		}
		files[module(line)] = out
	}
}

// TestMemoryStaysWhereItIs takes programs and servers from kernel to kernel with their memory left in its page frames, and looks whether they have all of it afterwards,
// and the kernel, too.
func TestMemoryStaysWhereItIs(t *testing.T) {
	if !long() {
		memoryStays(t, "6.12", "6.1")
		return
	}
	t.Run("eight hops", func(t *testing.T) { memoryStays(t, "6.12", "6.12", "6.1", "6.1", "6.12", "6.12", "6.1", "6.1") })
	t.Run("generic kernels", func(t *testing.T) { memoryStays(t, "6.12-generic", "6.1-generic") })
	t.Run("much memory", muchMemoryStays)
}

// muchMemoryStays has the next kernel manage more memory than it needs itself, and copy what children have inherited, before it gets anything of that memory.
func muchMemoryStays(t *testing.T) {
	p := program{name: "crowd", source: "memory/crowd.c", args: []string{"600"}}
	files := build(t, []program{p})
	buildModules(t, files, "6.12")
	g := start(t, trial.Config{Files: files, MemoryMB: 16 << 10})
	p.start(t, g)
	before := memTotal(t, g)
	hopInPlace(t, g, "6.12", []program{p}, "--paranoid")
	nothingLeft(t, g, before)
	p.finish(t, g)
}

// memoryStays begins on the kernel that it ends on.
func memoryStays(t *testing.T, hops ...string) {
	static := []string{"-static"}
	residents := []program{
		{name: "crowd", source: "memory/crowd.c", args: []string{"96"}}, // huge pages, holes, and what children have inherited
		{name: "memfds", source: "memory/memfds.c", flags: static},
		{name: "neighbours", source: "memory/neighbours.c", flags: static},
		{name: "go", source: "golang"},
	}
	lines := []string{hops[len(hops)-1], hops[0]}
	files := build(t, residents)
	buildModules(t, files, lines...)
	network := vmtest.Net(t)
	g := start(t, trial.Config{
		Lines: lines, Files: files, MemoryMB: 2048, Programs: []string{"/usr/bin/memcached", "/usr/bin/redis-server"}, Net: network,
	})
	for _, p := range residents {
		p.start(t, g)
	}
	all := servers()
	for _, s := range all {
		s.start(t, g, network)
	}
	before := memTotal(t, g)
	for _, line := range hops {
		hopInPlace(t, g, line, residents)
		for _, s := range all {
			s.awaitAnswers(t)
		}
		nothingLeft(t, g, before)
	}
	for _, p := range residents {
		t.Run(p.name, func(t *testing.T) { p.finish(t, g) })
	}
	for _, s := range all {
		t.Run(s.name, s.finish)
	}
}

// hopInPlace takes the guest to another kernel with all memory left in its page frames, and looks after programs there.
func hopInPlace(t *testing.T, g *trial.Guest, line string, residents []program, options ...string) {
	t.Helper()
	update(t, g, line, append([]string{"--carrier", "frames", "--module", module(line)}, options...)...)
	journal, err := g.Journal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if journal.Carrier != "frames" {
		t.Errorf("carried by %s: %s", journal.Carrier, journal.CarrierWhy)
	}
	t.Log(journal.CarrierWhy)
	for _, p := range residents {
		if log := p.log(t, g); strings.Contains(log, "FAIL") || !p.running(t, g) {
			t.Fatalf("%s, after the update to %s: %s", p.name, line, log)
		}
	}
}

// nothingLeft checks that a kernel which has got memory in its page frames is like any other.
func nothingLeft(t *testing.T, g *trial.Guest, before int64) {
	t.Helper()
	// The kernels themselves differ by a few MB.
	if now := memTotal(t, g); now < before-before/50 {
		t.Errorf("the guest has %d kB of memory instead of %d", now, before)
	}
	if text := strings.TrimSpace(must(t, g, "sh", "-c", "dmesg | grep -E 'BUG|WARNING|Bad page|Bad rss|Call Trace|Oops'; true")); text != "" {
		t.Errorf("the kernel complains: %s", text)
	}
	if left := must(t, g, "sh", "-c", "grep kup_frames /proc/modules; ls /dev/kup* 2>/dev/null; true"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}
