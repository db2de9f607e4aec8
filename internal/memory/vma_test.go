package memory

import (
	"testing"

	"github.com/kup-project/kup/internal/procfs"
)

func TestLockedOnFaultShows(t *testing.T) {
	of := func(rss, swap, page uint64, read bool, flags ...string) procfs.SMapping {
		return procfs.SMapping{Mapping: procfs.Mapping{Start: 0x10000, End: 0x20000, Read: read}, Rss: rss, Swap: swap, PageSize: page, Flags: flags}
	}
	for _, tt := range []struct {
		name        string
		m           procfs.SMapping
		older, says bool
	}{
		{"it is said", of(0x10000, 0, 4096, true, "lo", "lf"), true, true},
		{"pages are missing", of(0x4000, 0, 4096, true, "lo"), true, false},
		{"all pages are there", of(0x10000, 0, 4096, true, "lo"), false, false},
		{"some are swapped out", of(0x8000, 0x8000, 4096, true, "lo"), false, false},
		{"nobody may touch them", of(0, 0, 4096, false, "lo"), false, false},
		{"huge pages do not count as resident", of(0, 0, 2<<20, true, "lo", "ht"), false, false},
		{"not locked", of(0, 0, 4096, true), false, false},
	} {
		for says, want := range map[bool]bool{false: tt.older, true: tt.says} {
			if got := lockedOnFault(&tt.m, func() bool { return says }); got != want {
				t.Errorf("%s, on a kernel that says it (%v): %v", tt.name, says, got)
			}
		}
	}
}
