package kernel

import (
	"os"
	"testing"
)

// TestPagemapScanOnAGrowingStack moves the stack of the goroutine that scans, between two calls of the kernel: it must not write where the stack was.
func TestPagemapScanOnAGrowingStack(t *testing.T) {
	if err := FeaturePagemapScan.Err(); err != nil {
		t.Fatalf("PAGEMAP_SCAN: %v", err)
	}
	const runs = 4000
	mem, err := MapAnon(2*runs*PageSize, ProtRead|ProtWrite, MapPrivate)
	if err != nil {
		t.Fatal(err)
	}
	defer Unmap(mem)
	for i := range runs {
		mem[2*i*PageSize] = 1
	}
	pagemap, err := os.Open("/proc/self/pagemap")
	if err != nil {
		t.Fatal(err)
	}
	defer pagemap.Close()
	start := AddressOf(mem)
	found := make(chan []PageRegion)
	go func() { // on a small stack
		var got []PageRegion
		err := PagemapScan(pagemap, PageScan{Start: start, End: start + uint64(len(mem)), Any: PageIsPresent, Return: PageIsPresent}, func(r PageRegion) {
			got = append(got, r)
			growStack(len(got) % 512)
		})
		if err != nil {
			t.Error(err)
		}
		found <- got
	}()
	got := <-found
	if len(got) != runs {
		t.Fatalf("expected %d runs of pages, got %d", runs, len(got))
	}
	for i, r := range got {
		at := start + uint64(2*i*PageSize)
		if r.Start != at || r.End != at+PageSize {
			t.Fatalf("run %d: expected %#x-%#x, got %#x-%#x", i, at, at+PageSize, r.Start, r.End)
		}
	}
}

//go:noinline
func growStack(depth int) byte {
	var frame [4096]byte
	if depth > 0 {
		frame[depth] = growStack(depth - 1)
	}
	return frame[depth]
}
