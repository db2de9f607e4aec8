package vm

import (
	"fmt"
	"maps"
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

// addDAX gives the guest what kup looks for of kernels that are to come: the modules with which memory is given back. The guest boots with an initramfs that has them.
func addDAX(t *testing.T, files map[string]string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		k, err := vm.FindKernel(line)
		if err != nil {
			t.Fatal(err)
		}
		found, err := vm.GiveBackFiles(k)
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(files, found)
	}
}

// way is how memory that stays where it is becomes the applications' again.
type way struct {
	carrier string
	options func(line string) []string
	look    func(*testing.T, *trial.Guest) // for what is particular to it, after an update
}

var (
	bound = way{"frames=module", func(line string) []string { return []string{"--carrier", "frames", "--module", module(line)} }, func(t *testing.T, g *trial.Guest) {
		extra(t, g, func(n int, stayed, copied uint64) uint64 {
			return 64<<20 + pageServer*uint64(n) + stayed*3/100 + copied
		})
		for name, pages := range inFrames(t, g) {
			// Few pages are needed before a process runs, and copied. Go and the servers give memory back to the kernel, and get other memory, for as long as they run.
			const needed = 12
			steady := slices.Contains([]string{"crowd", "memfds", "neighbours", "dd", "sleep"}, name)
			if steady && pages.Elsewhere+pages.Absent > needed || pages.Same == 0 {
				t.Errorf("%s: %+v", name, pages)
			}
		}
	}}
	copied = way{"frames=copy", func(string) []string { return []string{"--carrier", "frames"} }, extraBlocks}
)

// TestMemoryStaysWhereItIs takes programs and servers from kernel to kernel with their memory left in its page frames, and looks whether they have all of it afterwards,
// and the kernel, too.
func TestMemoryStaysWhereItIs(t *testing.T) {
	for _, w := range []way{bound, copied} {
		if !long() {
			t.Run(w.carrier, func(t *testing.T) { w.memoryStays(t, nil, "6.12", "6.1") })
			continue
		}
		t.Run(w.carrier+", eight hops", func(t *testing.T) { w.memoryStays(t, nil, "6.12", "6.12", "6.1", "6.1", "6.12", "6.12", "6.1", "6.1") })
		t.Run(w.carrier+", generic kernels", func(t *testing.T) {
			w.memoryStays(t, nil, "6.12-generic", "6.12-generic", "6.1-generic", "6.1-generic")
		})
		t.Run(w.carrier+", every page compared", func(t *testing.T) { w.memoryStays(t, []string{"--paranoid"}, "6.12", "6.12", "6.1", "6.1") })
	}
	if long() {
		t.Run("much memory", muchMemoryStays)
	}
}

// muchMemoryStays has the next kernel manage more memory than it needs itself, and copy what children have inherited, before it gets anything of that memory.
func muchMemoryStays(t *testing.T) {
	p := program{name: "crowd", source: "memory/crowd.c", flags: []string{"-static"}, args: []string{"600"}}
	files := build(t, []program{p})
	buildModules(t, files, "6.12")
	g := start(t, trial.Config{Files: files, MemoryMB: 16 << 10})
	p.start(t, g)
	before := memTotal(t, g)
	bound.hop(t, g, "6.12", []program{p}, "--paranoid")
	nothingLeft(t, g, before)
	p.finish(t, g)
}

// roomy waits for ever, with a mapping that is larger than what the next kernel begins with.
var roomy = program{name: "roomy"}

// memoryStays begins on the kernel that it ends on. The options are those of kup update; with any, an update need not be as quick or sparing as without.
func (w way) memoryStays(t *testing.T, options []string, hops ...string) {
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
	addDAX(t, files, lines...)
	keepImages := lookIntoFrames(t, files)
	network := vmtest.Net(t)
	g := start(t, trial.Config{
		Lines: lines, Files: files, MemoryMB: 2048, Programs: []string{"/usr/bin/memcached", "/usr/bin/redis-server"}, Net: network,
	})
	for _, p := range residents {
		p.start(t, g)
		p.stepBack(t, g)
	}
	all := servers()
	for _, s := range all {
		s.start(t, g, network)
	}
	must(t, g, "kup", "run", "-d", "--name", roomy.name, "--", "sh", "-c", "mkfifo /data/fifo; sleep 100000 >/data/fifo & exec dd if=/data/fifo of=/dev/null bs=800M")
	before := memTotal(t, g)
	for _, line := range hops {
		w.hop(t, g, line, residents, append(options, "--append", keepImages)...)
		if len(options) == 0 {
			w.look(t, g)
		}
		for _, s := range all {
			s.awaitAnswers(t)
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

// hop takes the guest to another kernel with all memory left in its page frames and nothing written to the disk, and looks after programs there.
func (w way) hop(t *testing.T, g *trial.Guest, line string, residents []program, options ...string) {
	t.Helper()
	update(t, g, line, append(w.options(line), options...)...)
	journal, err := g.Journal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if string(journal.Carrier) != w.carrier {
		t.Errorf("carried by %s: %s", journal.Carrier, journal.CarrierWhy)
	}
	t.Log(journal.CarrierWhy)
	for _, a := range journal.Applications {
		if !strings.HasPrefix(a.Image, "/run/") {
			t.Errorf("the image of %s was on the disk: %s", a.Name, a.Image)
		}
	}
	for _, p := range residents {
		if log := p.log(t, g); strings.Contains(log, "FAIL") || !p.running(t, g) {
			t.Fatalf("%s, after the update to %s: %s", p.name, line, log)
		}
	}
}

// extraBlocks checks that memory was not needed twice for more than two blocks of it.
func extraBlocks(t *testing.T, g *trial.Guest) {
	t.Helper()
	extra(t, g, func(_ int, stayed, copied uint64) uint64 { return 2*128<<20 + (stayed+copied)*3/100 })
}

// pageServer is what the page server of an application may need itself, bytes.
const pageServer = 8 << 20

// extra checks that not much more memory was in use than the applications have: at most so many bytes for so many of them with what stayed in its page frames, and what was
// copied.
func extra(t *testing.T, g *trial.Guest, most func(applications int, stayed, copied uint64) uint64) {
	t.Helper()
	journal, err := g.Journal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var stayed, copied uint64
	for _, a := range journal.Applications {
		stayed += uint64(a.Capture.InPlace)
		copied += uint64(a.Capture.Bytes - a.Capture.InPlace)
	}
	t.Logf("%d MB stayed where they were, %d MB were copied, and %d MB more than before were in use at most", stayed>>20, copied>>20, journal.Extra>>20)
	if limit := most(len(journal.Applications), stayed, copied); journal.Extra > limit {
		t.Errorf("%d MB more were in use, and %d MB are allowed", journal.Extra>>20, limit>>20)
	}
}

// TestMoreMemoryThanTheNextKernelStartsWith takes a program along with more memory than there is beside it, so that it must be given back while the program gets it.
func TestMoreMemoryThanTheNextKernelStartsWith(t *testing.T) {
	big := program{name: "big", source: "memory/big.c", flags: []string{"-static"}, args: []string{"640"}}
	small := program{name: "small", source: "memory/big.c", flags: []string{"-static"}, args: []string{"100"}}
	programs := []program{big, small}
	files := build(t, programs)
	addDAX(t, files, "6.1", "6.12")
	g := start(t, trial.Config{Files: files, MemoryMB: 2048})
	for _, p := range programs {
		p.start(t, g)
	}
	before := memTotal(t, g)
	for _, step := range []struct{ line, more string }{{"6.12", ""}, {"6.1", ""}, {"6.12", "kup.boot=--eager"}} {
		update(t, g, step.line, "--carrier", "frames=copy", "--append", step.more)
		if step.more == "" { // else the programs have to wait for all of their memory, and it for them
			extraBlocks(t, g)
		}
		for _, p := range programs {
			if log := p.log(t, g); strings.Contains(log, "FAIL") || !p.running(t, g) {
				t.Fatalf("%s, after the update to %s: %s", p.name, step.line, log)
			}
		}
		nothingLeft(t, g, before)
	}
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) { p.finish(t, g) })
	}
}

// countStuck prints how many memory blocks cannot be taken offline, and how many there are.
const countStuck = `stuck=0; all=0
	for state in /sys/devices/system/memory/memory*/state; do
		all=$((all + 1))
		if echo offline >$state; then echo online >$state; else stuck=$((stuck + 1)); fi
	done 2>/dev/null
	echo $stuck $all`

// TestSomeMemoryBlocksCannotBeEmptied changes the kernel where the next one has to start in memory that is found from block to block.
func TestSomeMemoryBlocksCannotBeEmptied(t *testing.T) {
	crowd := program{name: "crowd", source: "memory/crowd.c", flags: []string{"-static"}, args: []string{"64"}}
	pipes := program{name: "pipes", source: "memory/pipes.c", flags: []string{"-static"}} // nobody's concern
	files := build(t, []program{crowd, pipes})
	buildModules(t, files, "6.12")
	g := start(t, trial.Config{Files: files, MemoryMB: 2048})
	stuck := func() (blocks, all int) {
		if _, err := fmt.Sscan(must(t, g, "sh", "-c", countStuck), &blocks, &all); err != nil {
			t.Fatal(err)
		}
		return blocks, all
	}
	before, _ := stuck()
	must(t, g, "sh", "-c", "setsid "+pipes.path()+" /run/pipes.log /run/over 700 >/dev/null 2>&1 </dev/null & until grep ready /run/pipes.log; do sleep 0.2; done")
	crowd.start(t, g)
	crowd.stepBack(t, g)
	now, all := stuck()
	t.Logf("%d, then %d of %d memory blocks cannot be taken offline", before, now, all)
	if now < before+3 || now == all {
		t.Fatal("they should be more than before, but not all")
	}
	total := memTotal(t, g)
	bound.hop(t, g, "6.12", []program{crowd}, "--paranoid")
	nothingLeft(t, g, total)
	crowd.finish(t, g)
}

// TestApplicationStartsAfreshIfItsPagesAreGone kills a page server when some of what it has read was given back.
func TestApplicationStartsAfreshIfItsPagesAreGone(t *testing.T) {
	big := program{name: "big", source: "memory/big.c", flags: []string{"-static"}, args: []string{"400"}}
	files := build(t, []program{big})
	addDAX(t, files, "6.12")
	g := start(t, trial.Config{Files: files, MemoryMB: 1536})
	big.start(t, g)
	must(t, g, "kup", "run", "-d", "--name", "killer", "--", "sh", "-c", `until test -e /data/killed; do
		sleep 0.1
		f=$(grep -l '/big",.*"lowest":[1-9]' /run/kup/pages/*.json 2>/dev/null) || continue
		lowest=$(sed 's/.*"lowest":\([0-9]*\).*/\1/' $f)
		test ${first:=$lowest} = $lowest && continue
		sleep 0.5
		pid=$(sed 's/^{"server":{"pid":\([0-9]*\).*/\1/' $f) && kill -9 $pid && echo $pid >/data/killed
	done`)
	updateWithTrouble(t, g, "big has lost its memory", "6.12", "--carrier", "frames=copy")
	journal, err := g.Journal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	must(t, g, "cat", "/data/killed")
	for _, a := range journal.Applications {
		if a.Lost != (a.Name == "big") {
			t.Errorf("%+v", a)
		}
	}
	eventually(t, "big to start afresh", func() bool { return big.running(t, g) && strings.Count(big.log(t, g), "ready\n") == 2 })
	forgotten(t, g)
	big.finish(t, g)
}

// nothingLeft checks that a kernel which has got memory in its page frames is like any other.
func nothingLeft(t *testing.T, g *trial.Guest, before int64) {
	t.Helper()
	// The kernels themselves differ by a few MB.
	if now := memTotal(t, g); now < before-before/50 {
		t.Errorf("the guest has %d kB of memory instead of %d", now, before)
	}
	if unmovable, movable := pageBlocks(t, g); unmovable > movable/4 {
		t.Errorf("%d blocks of pages are for what cannot be moved, and %d for the rest", unmovable, movable)
	}
	if text := strings.TrimSpace(must(t, g, "sh", "-c", "dmesg | grep -E 'BUG|WARNING|Bad page|Bad rss|Call Trace|Oops'; true")); text != "" {
		t.Errorf("the kernel complains: %s", text)
	}
	if left := must(t, g, "sh", "-c", "grep kup_frames /proc/modules; ls /dev/kup* /run/kup/pages/* 2>/dev/null; grep -v 0 /proc/sys/vm/overcommit_memory; true"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

// pageBlocks is how many blocks of pages the page allocator has set apart for what cannot be moved, and how many for what can. Memory that has the former all over cannot be
// taken offline.
func pageBlocks(t *testing.T, g *trial.Guest) (unmovable, movable int) {
	t.Helper()
	const sums = `sed '1,/^Number of blocks/d' /proc/pagetypeinfo | awk '{ unmovable += $5; movable += $6 } END { print unmovable, movable }'`
	if _, err := fmt.Sscan(must(t, g, "sh", "-c", sums), &unmovable, &movable); err != nil {
		t.Fatal(err)
	}
	return unmovable, movable
}
