package frames

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kup-project/kup/internal/kexec"
)

func TestNoFrameIsClaimedTwice(t *testing.T) {
	var s pageSet
	first := s.claim(nil, Run{Addr: 0x10000, Frame: 100, Count: 4})
	if diff := cmp.Diff([]Run{{Addr: 0x10000, Frame: 100, Count: 4}}, first); diff != "" {
		t.Error(diff)
	}
	// 102 and 103 are somebody else's.
	second := s.claim(nil, Run{Addr: 0x20000, Frame: 98, Count: 8})
	if diff := cmp.Diff([]Run{{Addr: 0x20000, Frame: 98, Count: 2}, {Addr: 0x26000, Frame: 104, Count: 2}}, second); diff != "" {
		t.Error(diff)
	}
	if third := s.claim(nil, Run{Addr: 0x30000, Frame: 98, Count: 8}); third != nil {
		t.Errorf("claimed again: %+v", third)
	}
}

func TestWhatIsKept(t *testing.T) {
	const block = 128 << 20
	ram := kexec.Ranges{{Start: block, End: 6*block - 1<<20}, {Start: 32 * block, End: 40 * block}, {Start: 50*block + 4096, End: 50*block + 8192}}
	slice := kexec.Ranges{{Start: 2 * block, End: 4 * block}, {Start: 33 * block, End: 34 * block}}
	for _, tt := range []struct {
		next Next
		want kexec.Ranges
	}{
		{Copies, kexec.Ranges{{Start: block, End: 2 * block}, {Start: 4 * block, End: 5 * block}, {Start: 32 * block, End: 33 * block}, {Start: 34 * block, End: 40 * block}}},
		{Binds, kexec.Ranges{
			{Start: block, End: 2 * block}, {Start: 4 * block, End: 6*block - 1<<20 - Size}, {Start: 32 * block, End: 33 * block}, {Start: 34 * block, End: 40*block - Size},
		}},
	} {
		if diff := cmp.Diff(tt.want, kept(ram, slice, block, tt.next)); diff != "" {
			t.Errorf("the next kernel %s: %s", tt.next, diff)
		}
	}
}

func TestUnitsAreFew(t *testing.T) {
	const block = 128 << 20
	for _, tt := range []struct {
		kept kexec.Ranges
		want uint64
	}{
		{nil, block},
		{kexec.Ranges{{Start: block, End: 201 * block}}, block},
		{kexec.Ranges{{Start: block, End: 202 * block}}, 2 * block},
		{kexec.Ranges{{Start: block, End: 300 * block}, {Start: 301 * block, End: 1000 * block}}, 8 * block},
	} {
		if got := unitOf(tt.kept, block); got != tt.want {
			t.Errorf("%v: %d MB", tt.kept, got>>20)
		}
	}
}
