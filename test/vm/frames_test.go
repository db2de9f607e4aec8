package vm

import (
	"os"
	"path/filepath"
	"slices"
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
	static := []string{"-static"}
	residents := []program{
		{name: "crowd", source: "memory/crowd.c", args: []string{"96"}}, // huge pages, holes, and what children have inherited
		{name: "memfds", source: "memory/memfds.c", flags: static},
		{name: "neighbours", source: "memory/neighbours.c", flags: static},
		{name: "go", source: "golang"},
	}
	files := build(t, residents)
	buildModules(t, files, "6.1", "6.12")
	keepImages := lookIntoFrames(t, files)
	network := vmtest.Net(t)
	g := start(t, trial.Config{Files: files, MemoryMB: 2048, Programs: []string{"/usr/bin/memcached", "/usr/bin/redis-server"}, Net: network})
	for _, p := range residents {
		p.start(t, g)
	}
	all := servers()
	for _, s := range all {
		s.start(t, g, network)
	}
	must(t, g, "kup", "run", "-d", "--name", roomy.name, "--", "sh", "-c", "mkfifo /data/fifo; sleep 100000 >/data/fifo & exec dd if=/data/fifo of=/dev/null bs=800M")
	before := memTotal(t, g)
	hops := []string{"6.12", "6.1"}
	if os.Getenv("KUP_LONG_TESTS") != "" {
		hops = []string{"6.12", "6.12", "6.1", "6.1", "6.12", "6.12", "6.1", "6.1"}
	}
	const needed = 12
	for _, line := range hops {
		update(t, g, line, "--carrier", "frames", "--module", module(line), "--append", keepImages)
		frames := inFrames(t, g)
		for _, s := range all {
			s.awaitAnswers(t)
		}
		for name, pages := range frames {
			// Go and the servers give memory back to the kernel all the time. Few pages are needed before a process runs, and copied.
			steady := slices.Contains([]string{"crowd", "memfds", "neighbours", "dd", "sleep"}, name)
			if moved := pages.Elsewhere + pages.Absent; moved > pages.Same/5 || steady && moved > needed || pages.Same == 0 {
				t.Errorf("%s, after the update to %s: %+v", name, line, pages)
			}
		}
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
		if !roomy.running(t, g) {
			t.Errorf("after the update to %s a process with a large mapping does not run", line)
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

// roomy waits for ever, with a mapping that is larger than what the next kernel begins with.
var roomy = program{name: "roomy"}

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
	if left := must(t, g, "sh", "-c", "grep kup_frames /proc/modules; ls /dev/kup* 2>/dev/null; grep -v 0 /proc/sys/vm/overcommit_memory; true"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}
