package memory

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// TestHashesFindWhatDiffers takes the hashes of pages of this very process, more than are hashed at once, with holes between them.
func TestHashesFindWhatDiffers(t *testing.T) {
	const pages = 400
	mem, err := kernel.MapAnon(pages*kernel.PageSize, kernel.ProtRead|kernel.ProtWrite, kernel.MapPrivate)
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Unmap(mem)
	for i := range mem {
		mem[i] = byte(i/kernel.PageSize + i%251)
	}
	at := func(page int) uint64 { return kernel.AddressOf(mem) + uint64(page)*kernel.PageSize }
	f := image.FOAM{
		Name: "pages", Physical: true,
		Extents: []image.Extent{{Start: at(0), End: at(1)}, {Start: at(2), End: at(300)}, {Start: at(310), End: at(pages)}},
		Windows: []image.Window{{Start: at(0), End: at(pages), Offset: 0x40000000}},
	}
	read := processPages(os.Getpid())
	if err := hash(&f, read); err != nil {
		t.Fatal(err)
	}
	if want := (1 + 298 + 90) * image.HashSize; len(f.Hashes) != want {
		t.Fatalf("%d bytes of hashes instead of %d", len(f.Hashes), want)
	}
	if err := verify(&f, read); err != nil {
		t.Errorf("nothing has changed: %v", err)
	}
	mem[305*kernel.PageSize]++ // in a hole
	if err := verify(&f, read); err != nil {
		t.Errorf("nothing has changed that is stored: %v", err)
	}
	for _, tt := range []struct {
		pages []int
		says  string
	}{
		{[]int{0}, "1 of 389 pages; the first is the one at"},
		{[]int{399}, "which was in page frame 0x4018f"},
		{[]int{311, 17, 2}, "3 of 389 pages; the first is the one at"},
	} {
		for _, p := range tt.pages {
			mem[p*kernel.PageSize+4095]++
		}
		err := verify(&f, read)
		if !errors.Is(err, ErrDiffers) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("pages %v: %v; it should say %q", tt.pages, err, tt.says)
		}
		for _, p := range tt.pages {
			mem[p*kernel.PageSize+4095]--
		}
	}
	f.Hashes, f.Physical = nil, false
	if err := hash(&f, read); err != nil || f.Hashes != nil {
		t.Errorf("what is in a file has a seal for that: %v, %v", err, f.Hashes)
	}
}

func TestPortionsAreAllPagesOnce(t *testing.T) {
	x := foam.Extents{{Start: 0x1000, End: 0x3000}, {Start: 0x10000, End: 0x10000 + 3*portionSize}, {Start: 0x40000000, End: 0x40001000}}
	var all []image.Extent
	pages := uint64(0)
	for _, p := range portions(x) {
		if p.first != pages || p.runs.Total() > portionSize {
			t.Errorf("%d bytes from page %d on instead of %d", p.runs.Total(), p.first, pages)
		}
		pages += p.runs.Total() / kernel.PageSize
		all = append(all, p.runs...)
	}
	if got := foam.Merged(all...); !slices.Equal(got, x) {
		t.Errorf("%x instead of %x", got, x)
	}
}
