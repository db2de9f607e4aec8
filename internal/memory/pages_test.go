package memory

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// Both ways to find pages must agree: this machine has only one of the kernels that they are for.
func TestPagemapAndItsScanFindTheSamePages(t *testing.T) {
	const pages = 64
	mem, err := kernel.MapAnon(pages*kernel.PageSize, kernel.ProtRead|kernel.ProtWrite, kernel.MapPrivate)
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Unmap(mem)
	base := kernel.AddressOf(mem)
	at := func(page uint64) uint64 { return base + page*kernel.PageSize }
	for _, page := range []int{3, 4, 5, 40} {
		mem[page*kernel.PageSize] = 1
	}
	if mem[20*kernel.PageSize] != 0 { // read only: the zero page
		t.Fatal("fresh memory is not zero")
	}
	want := []image.Extent{{Start: at(3), End: at(6)}, {Start: at(40), End: at(41)}}

	f, err := newPageFinder(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.zero, err = zeroFrame(); err != nil {
		t.Fatal(err)
	}
	for _, scan := range []bool{f.scan, false} {
		f.scan = scan
		var own ownPages
		if err := f.own(at(0), at(pages), &own); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, own.all); diff != "" {
			t.Errorf("scan %v: own pages differ from what was touched: %s", scan, diff)
		}
		if diff := cmp.Diff(want, own.written); diff != "" {
			t.Errorf("scan %v: pages that nobody watches count as written: %s", scan, diff)
		}
	}
}
