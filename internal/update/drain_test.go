package update

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kup-project/kup/internal/kexec"
)

const block = 128 << 20

func TestHorizonIsTwoBlocksAway(t *testing.T) {
	for _, tt := range []struct {
		name      string
		needed    blocks
		available uint64
		want      uint64
	}{
		{"nothing is needed", nil, 0, math.MaxUint64},
		{"one block", blocks{7: 4096}, 1 << 30, 8 * block},
		{"several", blocks{12: 4096, 7: block, 9: 1 << 20}, 1 << 30, 10 * block},
		{"there is memory for one", blocks{12: 4096, 7: block, 9: 64 << 20}, block + spare, 8 * block},
		{"there is just enough for two", blocks{12: 4096, 7: block, 9: 64 << 20}, block + 64<<20 + spare, 10 * block},
	} {
		if got := tt.needed.horizon(block, tt.available); got != tt.want {
			t.Errorf("%s: %#x instead of %#x", tt.name, got, tt.want)
		}
	}
}

func TestBlocks(t *testing.T) {
	b := blocks{3: 1, 5: 2}
	b.add(blocks{5: 3, 8: 4})
	if diff := cmp.Diff(blocks{3: 1, 5: 5, 8: 4}, b); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(blocks{5: 5, 8: 4}, b.above(5*block+block/2, block)); diff != "" {
		t.Errorf("above block 5 and a half: %s", diff)
	}
	if diff := cmp.Diff(blocks{}, b.above(math.MaxUint64, block)); diff != "" {
		t.Errorf("above everything: %s", diff)
	}
	for _, tt := range []struct {
		first, last uint64 // blocks
		want        bool
	}{{0, 3, false}, {0, 4, true}, {4, 5, false}, {6, 8, false}, {7, 12, true}, {9, 20, false}} {
		if got := b.touch(kexec.Range{Start: tt.first * block, End: tt.last * block}, block); got != tt.want {
			t.Errorf("blocks %d to %d: %v", tt.first, tt.last, got)
		}
	}
}
