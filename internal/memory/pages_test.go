package memory

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
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
	if f.zero, err = procfs.ZeroFrame(); err != nil {
		t.Fatal(err)
	}
	for _, scan := range []bool{f.scan, false} {
		f.scan = scan
		var own ownPages
		if err := f.own(at(0), at(pages), nil, &own); err != nil {
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

// TestWatchedPagesAreFoundFast compares the two ways to look at a watched mapping, with pages that were written, dropped singly, dropped with their page table,
// and read for the first time.
func TestWatchedPagesAreFoundFast(t *testing.T) {
	if err := kernel.FeatureWPAsync.Err(); err != nil {
		t.Fatal(err)
	}
	const tables = 6
	mem, err := kernel.MapAnon((tables+1)*pageTable, kernel.ProtRead|kernel.ProtWrite, kernel.MapPrivate)
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Unmap(mem)
	start := (kernel.AddressOf(mem) + pageTable - 1) &^ (pageTable - 1)
	part := mem[start-kernel.AddressOf(mem):][:tables*pageTable]
	if err := kernel.NoHugePages(part); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(part); i += kernel.PageSize {
		part[i] = 1
	}
	end := start + uint64(len(part))
	fd, err := kernel.OpenUffd()
	if err != nil {
		t.Fatal(err)
	}
	w := &wpAsync{fd: fd, refused: map[image.Extent]bool{}}
	defer w.close()
	if err := kernel.UffdEnable(fd, kernel.UffdFeatureWPAsync); err != nil {
		t.Fatal(err)
	}
	if w.pagemap, err = os.Open("/proc/self/pagemap"); err != nil {
		t.Fatal(err)
	}
	w.watch([]image.Extent{{Start: start, End: end}})
	seen, err := w.next([]procfs.SMapping{{Mapping: procfs.Mapping{Start: start, End: end}, Flags: []string{"uw"}}}, func(image.Extent) {})
	if err != nil {
		t.Fatal(err)
	}
	if got := foam.Extents(seen).Total(); got != uint64(len(part)) {
		t.Fatalf("expected %d bytes to be seen first, got %d", len(part), got)
	}

	part[5*kernel.PageSize] = 2                                       // written
	drop(t, part[9*kernel.PageSize:][:kernel.PageSize])               // dropped
	drop(t, part[pageTable:][:2*pageTable])                           // dropped, and two page tables with them
	part[pageTable] = 3                                               // of which one is made anew
	drop(t, part[4*pageTable+8*kernel.PageSize:][:8*kernel.PageSize]) // dropped
	if part[4*pageTable+9*kernel.PageSize] != 0 {                     // and read: the zero page
		t.Fatal("a dropped page is not zero")
	}

	f, err := newPageFinder(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var slow, fast ownPages
	if err := f.look(start, end, &slow); err != nil {
		t.Fatal(err)
	}
	if err := f.own(start, end, seen, &fast); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(foam.Merged(slow.all...), foam.Merged(fast.all...)); diff != "" {
		t.Errorf("own pages: %s", diff)
	}
	if diff := cmp.Diff(foam.Merged(slow.written...), foam.Merged(fast.written...)); diff != "" {
		t.Errorf("written pages: %s", diff)
	}
	if want := uint64(2 * kernel.PageSize); foam.Merged(fast.written...).Total() != want {
		t.Errorf("expected %d bytes to be written, got %v", want, fast.written)
	}
}

func drop(t *testing.T, mem []byte) {
	t.Helper()
	if err := kernel.Forget(mem); err != nil {
		t.Fatal(err)
	}
}
