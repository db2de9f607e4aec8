package update

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kup-project/kup/internal/image"
)

func TestHugePagesAreCounted(t *testing.T) {
	const small, large = 2 << 20, 1 << 30
	st := &image.State{
		Processes: []image.Process{
			{Memory: image.Memory{VMAs: []image.VMA{
				{Start: 0, End: 3 * small, Kind: image.VMAHugeTLB, Page: small},
				{Start: large, End: 2 * large, Kind: image.VMAHugeTLB, Page: large},
				{Start: 4 * large, End: 4*large + small, Kind: image.VMAAnon, Page: 4096},
				{Start: 5 * large, End: 5*large + small, Kind: image.VMAShared, Page: small, Object: 1},
			}}},
			{Memory: image.Memory{VMAs: []image.VMA{{Start: 0, End: small, Kind: image.VMAHugeTLB, Page: small}}}},
		},
		Memories: []image.SharedMem{{ID: 1, Size: small + 1, Huge: small}, {ID: 2, Size: 4096}},
	}
	got := hugePages{small: 10}
	got.add(st)
	if diff := cmp.Diff(hugePages{small: 10 + 3 + 1 + 2, large: 1}, got); diff != "" {
		t.Error(diff)
	}
}
