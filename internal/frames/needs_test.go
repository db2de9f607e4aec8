package frames

import (
	"testing"

	"github.com/kup-project/kup/internal/image"
)

func TestCopiedIsWhatCannotStay(t *testing.T) {
	two := []Place{{PID: 1, Addr: 0x10000}, {PID: 2, Addr: 0x10000}}
	for _, tt := range []struct {
		name  string
		v     Inventory
		pages uint64
	}{
		{"nothing", Inventory{}, 0},
		{"what is alone", Inventory{Processes: []Resident{{Runs: []Run{{Count: 7}, {Count: 512, Kind: Huge}}}}}, 0},
		{"swap", Inventory{Processes: []Resident{{Swapped: []image.Extent{{Start: 0x1000, End: 0x4000}}}, {Swapped: []image.Extent{{Start: 0x1000, End: 0x2000}}}}}, 4},
		{"two of a kind", Inventory{Shared: []Shared{{Count: 5, Places: two}, {Count: 3, Places: append(two, Place{PID: 3})}}}, 5 + 2*3},
	} {
		if got := tt.v.copied(); got != tt.pages*page {
			t.Errorf("%s: %d bytes instead of %d pages", tt.name, got, tt.pages)
		}
	}
}
