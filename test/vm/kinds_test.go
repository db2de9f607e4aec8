package vm

import (
	"slices"
	"strings"
	"testing"

	"github.com/kup-project/kup/internal/vm/trial"
)

// A kind is a program with one kind of memory.
type kind struct {
	program
	has string // a shell command that succeeds if its process, $pid, has such memory
}

// kinds are in the guest from the first hop on, fresh ones from the second, when nobody gets huge pages.
func kinds() (kinds, fresh []kind) {
	of := func(name, source, has string, args ...string) kind {
		return kind{program{name, "memory/" + source + ".c", []string{"-static"}, args}, has}
	}
	const (
		huge   = "grep -q 'AnonHugePages: *[1-9]' /proc/$pid/smaps"
		none   = "! " + huge
		locked = "grep -q 'VmLck:.*[1-9]' /proc/$pid/status"
		pool   = "grep -q 'Private_Hugetlb: *[1-9]' /proc/$pid/smaps"
		merged = "test $(cat /proc/$pid/ksm_merging_pages) -gt 1000"
		out    = "grep -q 'VmSwap:.*[1-9]... kB' /proc/$pid/status"
	)
	kinds = []kind{
		of("crowd", "crowd", huge, "24"), // huge pages, holes, and what children have inherited
		of("hugepages", "hugepages", "true"),
		of("fragmented", "fragmented", "true", "16"),
		of("locked", "locked", locked),
		of("lockall", "lockall", locked),
		of("hugetlb", "hugetlb", pool),
		of("merged", "merged", merged),
		of("swapped", "swapped", out, "16"),
		of("sysvshm", "sysvshm", "true"),
		of("memfds", "memfds", "true"),
		of("protections", "protections", "true"),
	}
	fresh = []kind{
		of("small", "fragmented", none, "8"),
		of("merged-again", "merged", merged),
		of("swapped-again", "swapped", out, "16"),
	}
	return kinds, fresh
}

// kindsNeed is what the machine must have for all kinds.
const kindsNeed = `echo 8 >/proc/sys/vm/nr_hugepages
	cd /sys/kernel/mm/ksm && echo 1000 >pages_to_scan && echo 50 >sleep_millisecs && echo 1 >run
	test -e /data/swap || { dd if=/dev/zero of=/data/swap bs=1M count=64 2>/dev/null && mkswap /data/swap; }
	swapon /data/swap`

// TestKindsOfMemoryStayWhereTheyAre takes programs with each kind of memory from kernel to kernel, and has every page compared with what it was.
func TestKindsOfMemoryStayWhereTheyAre(t *testing.T) {
	kinds, fresh := kinds()
	var all []program
	for _, k := range slices.Concat(kinds, fresh) {
		all = append(all, k.program)
	}
	files := build(t, all)
	buildModules(t, files, "6.1", "6.12")
	g := start(t, trial.Config{Files: files, MemoryMB: 2048})
	before := memTotal(t, g)
	hops := []struct {
		line, thp string
		more      []kind
	}{{"6.12", "always", kinds}, {"6.1", "never", fresh}}
	if !long() {
		hops = hops[:1]
	}
	var running []program
	for _, hop := range hops {
		must(t, g, "sh", "-c", kindsNeed+"; echo "+hop.thp+" >/sys/kernel/mm/transparent_hugepage/enabled")
		for _, k := range hop.more {
			k.start(t, g)
			k.check(t, g)
			running = append(running, k.program)
		}
		bound.hop(t, g, hop.line, running, "--paranoid")
		nothingLeft(t, g, before)
	}
	for _, p := range running {
		t.Run(p.name, func(t *testing.T) { p.finish(t, g) })
	}
}

// check makes sure that the program has such memory.
func (k kind) check(t *testing.T, g *trial.Guest) {
	t.Helper()
	if r, err := g.Run(t.Context(), "sh", "-c", "pid=$(pidof "+k.name+" | tr ' ' '\n' | sort -n | head -1); "+k.has); err != nil || r.ExitCode != 0 {
		t.Errorf("%s has no such memory: %+v, %v\n%s", k.name, r, err, strings.TrimSpace(must(t, g, "sh", "-c", "cat /proc/meminfo; true")))
	}
}
