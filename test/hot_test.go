package test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/kup-project/kup/internal/kernel"
)

// As in programs/memory/hotset.c.
const (
	hotSetPages = 32 << 10
	hotSetHot   = 64
	hotSetFirst = hotSetPages / 2
	hotSetApart = 200
)

// aroundFault is how many pages come with one that is touched. The program may be restored in the middle of its last write.
const aroundFault = 16

// TestHotPagesComeFirst restores on demand a program that wrote a few pages before its checkpoint and does no more after it: whenever the page server is held
// up, the pages that were written are there, or hardly any others.
func TestHotPagesComeFirst(t *testing.T) {
	p := start(t, buildC(t, "memory/hotset"))
	p.waitReady(t)
	base := uint64(p.value(t, "pages"))
	if err := os.WriteFile(p.path("warm"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	image, r := p.checkpoint(t, false, "--precopy")
	if r.code != exitDone {
		t.Fatalf("kup checkpoint --precopy: exit code %d\n%s", r.code, r.output)
	}
	remove(t, p.path("warm"))
	knowsHotPages(t, image, base)
	const tries = 50
	for try := 0; ; try++ {
		if try == tries {
			t.Fatalf("the page server could not be held up between the first and the last page, in %d tries", tries)
		}
		server := p.restoreOnDemand(t, image).Server
		stopped := hold(t, server)
		hot, cold := present(t, p.pid, base)
		if stopped {
			if err := kernel.Kill(server, kernel.SIGCONT); err != nil {
				t.Fatal(err)
			}
		}
		if stopped && cold > aroundFault && hot < hotSetHot {
			t.Fatalf("%d of %d hot pages are there, and %d others", hot, hotSetHot, cold)
		}
		if stopped && hot == hotSetHot && cold < hotSetFirst {
			t.Logf("try %d: %d hot pages, %d others", try, hot, cold)
			break
		}
		p.endAll(t)
	}
	p.filled(t)
	p.finish(t)
}

// hotSetIs tells whether a page of the program is hot.
func hotSetIs(page uint64) bool {
	return page >= hotSetFirst && (page-hotSetFirst)%hotSetApart == 0 && (page-hotSetFirst)/hotSetApart < hotSetHot
}

// knowsHotPages verifies that an image names the hot pages, and none of the others.
func knowsHotPages(t *testing.T, dir string, base uint64) {
	t.Helper()
	r := kup(t, "inspect", "--json", dir)
	var image struct {
		State struct {
			Processes []struct {
				Memory struct {
					Hot [][]struct{ Start, End uint64 }
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(r.output), &image); err != nil || len(image.State.Processes) != 1 {
		t.Fatalf("kup inspect: exit code %d, %v\n%s", r.code, err, r.output)
	}
	found := map[uint64]bool{}
	for _, list := range image.State.Processes[0].Memory.Hot {
		for _, e := range list {
			for at := max(e.Start, base); at < min(e.End, base+hotSetPages*kernel.PageSize); at += kernel.PageSize {
				found[(at-base)/kernel.PageSize] = true
			}
		}
	}
	for page := range uint64(hotSetPages) {
		if found[page] != hotSetIs(page) {
			t.Errorf("page %d: expected hot %v, got %v", page, hotSetIs(page), found[page])
		}
	}
}

// present counts the pages of the program that are in memory, by /proc/PID/pagemap.
func present(t *testing.T, pid int, base uint64) (hot, cold int) {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	words := make([]byte, 8*hotSetPages)
	if _, err := f.ReadAt(words, int64(base/kernel.PageSize*8)); err != nil {
		t.Fatal(err)
	}
	for page := range uint64(hotSetPages) {
		const isPresent = 1 << 63 // Documentation/admin-guide/mm/pagemap.rst
		switch there := binary.LittleEndian.Uint64(words[8*page:])&isPresent != 0; {
		case there && hotSetIs(page):
			hot++
		case there:
			cold++
		}
	}
	return hot, cold
}
