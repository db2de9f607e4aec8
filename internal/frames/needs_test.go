package frames

import (
	"testing"

	"github.com/kup-project/kup/internal/image"
)

func TestCopiedIsWhatCannotStay(t *testing.T) {
	of := func(runs ...Run) *Inventory { return &Inventory{Processes: []Resident{{Runs: runs}}} }
	for _, tt := range []struct {
		name         string
		all          []*Inventory
		pages, stays uint64
	}{
		{"nothing", nil, 0, 0},
		{"what is alone", []*Inventory{of(Run{Frame: 1, Count: 7}, Run{Frame: 512, Count: 512, Kind: Huge}), of(Run{Frame: 8, Count: 1})}, 0, 520},
		{"swap", []*Inventory{
			{Processes: []Resident{{Swapped: []image.Extent{{Start: 0x1000, End: 0x4000}}}}}, {Processes: []Resident{{Swapped: []image.Extent{{Start: 0x1000, End: 0x2000}}}}},
		}, 4, 0},
		{"what several processes have", []*Inventory{of(Run{Frame: 10, Count: 8}), of(Run{Frame: 4, Count: 8}), of(Run{Frame: 9, Count: 3})}, 2 + 3, 14},
		{"what one has several times", []*Inventory{{Processes: []Resident{{}}, Shared: []Shared{{Frame: 3, Count: 3, Places: []Place{{1, 0x1000}, {1, 0x8000}, {1, 0x20000}}}}}}, 6, 3},
	} {
		var got tally
		for _, v := range tt.all {
			got.add(v)
		}
		stays := uint64(0)
		for _, r := range got.memory {
			stays += r.Count
		}
		if got.copied != tt.pages*page || stays != tt.stays {
			t.Errorf("%s: %d bytes are copied and %d pages stay, instead of %d pages and %d", tt.name, got.copied, stays, tt.pages, tt.stays)
		}
	}
}
