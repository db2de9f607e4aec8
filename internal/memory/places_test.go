package memory

import (
	"testing"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
)

func TestPlacesTellOtherPages(t *testing.T) {
	const page = kernel.PageSize
	var p places
	lay := map[uint64]uint64{ // address: place
		4 * page: 100, 5 * page: 101, 6 * page: 102, // consecutive
		7 * page:  50, // the next address, another frame
		9 * page:  51, // the next frame, another address
		20 * page: procfs.PagemapSwapped | 3,
	}
	for at := range uint64(32) {
		if place, ok := lay[at*page]; ok {
			p.add(at*page, place)
		}
	}
	if len(p.runs) != 4 {
		t.Errorf("expected 4 runs, got %v", p.runs)
	}
	for _, offset := range []uint64{0, 1, 50, procfs.PagemapSwapped} {
		p.rewind()
		for at := range uint64(32) {
			place, there := lay[at*page]
			if got, want := p.has(at*page, place+offset), there && offset == 0; got != want {
				t.Errorf("page %d in place %#x: expected %v, got %v", at, place+offset, want, got)
			}
		}
	}
	p.rewind()
	if p.has(0, 0) || !p.has(6*page, 102) {
		t.Error("pages that are not asked about disturb")
	}
}
