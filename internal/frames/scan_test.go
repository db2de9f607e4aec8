package frames

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// TestScanTellsPagesApart scans mappings of this very process.
func TestScanTellsPagesApart(t *testing.T) {
	const pages = 1024
	mem, err := kernel.MapAnon(pages*page, kernel.ProtRead|kernel.ProtWrite, kernel.MapPrivate)
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Unmap(mem)
	if err := kernel.NoHugePages(mem); err != nil {
		t.Fatal(err)
	}
	touched := byte(0)
	for i := range pages {
		switch {
		case i < 10 || i >= 700 && i < 720:
			mem[i*page] = 1
		case i < 20: // the zero page
			touched |= mem[i*page]
		}
	}
	huge, err := mapHuge(2)
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Unmap(huge)
	extent := func(mem []byte) image.Extent {
		start := kernel.AddressOf(mem)
		return image.Extent{Start: start, End: start + uint64(len(mem))}
	}
	asked := []Process{{PID: os.Getpid(), Mappings: []image.Extent{extent(mem), extent(huge)}}}
	v, err := Scan(asked)
	if err != nil {
		t.Fatal(err)
	}
	count := map[Kind]uint64{}
	where := map[uint64]uint64{} // frame of an address
	for _, r := range v.Processes[0].Runs {
		count[r.Kind] += r.Count
		for i := range r.Count {
			where[r.Addr+i*page] = r.Frame + i
		}
	}
	if diff := cmp.Diff(map[Kind]uint64{Small: 30, HugeTLB: 1024}, count); diff != "" {
		t.Errorf("pages: %s", diff)
	}
	if len(v.Shared) > 0 || len(v.Processes[0].Swapped) > 0 {
		t.Errorf("shared: %v, swapped: %v", v.Shared, v.Processes[0].Swapped)
	}
	found, err := find(huge)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if got := where[kernel.AddressOf(f.Mem)] * page; got != f.Addr {
			t.Errorf("a huge page is found at %#x instead of %#x", got, f.Addr)
		}
	}
	for i := range uint64(pages) {
		_, got := where[kernel.AddressOf(mem)+i*page]
		if want := i < 10 || i >= 700 && i < 720; got != want {
			t.Errorf("page %d of small ones: found %v", i, got)
		}
	}

	if moved, err := v.Moved(); err != nil || len(moved[0]) > 0 {
		t.Errorf("moved: %v, %v", moved, err)
	}
	if err := kernel.Forget(mem[4*page : 6*page]); err != nil {
		t.Fatal(err)
	}
	mem[5*page], mem[30*page] = 1, 1
	moved, err := v.Moved()
	if err != nil {
		t.Fatal(err)
	}
	base := kernel.AddressOf(mem)
	// Page 5 may have got its old frame again.
	if n := len(moved[0]); n < 2 || moved[0][0].Start != base+4*page || moved[0][n-1] != (image.Extent{Start: base + 30*page, End: base + 31*page}) {
		t.Errorf("moved: %#x from %#x on", moved, base)
	}
	_ = touched
}
