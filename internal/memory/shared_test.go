package memory

import (
	"fmt"
	"os"
	"testing"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// TestHugeTLBMemoryIsReadInParts needs two huge pages, which it asks the kernel for.
func TestHugeTLBMemoryIsReadInParts(t *testing.T) {
	const huge = 2 << 20
	reserveHugePages(t, 2)
	fd, err := kernel.MemfdCreate("parts", kernel.MfdHugeTLB|int(hugeFlags(huge)&^kernel.MapHugeTLB))
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "parts")
	defer f.Close()
	m := &image.SharedMem{Size: 2 * huge, Huge: huge}
	if err := f.Truncate(int64(m.Size)); err != nil {
		t.Fatal(err)
	}
	into, whole, err := mapHugeTLB(f, m, image.Extent{Start: 0, End: m.Size}, true)
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Unmap(whole)
	for i := range into {
		into[i] = byte(i >> 12)
	}
	for _, e := range []image.Extent{{Start: 0, End: huge}, {Start: 0x80000, End: 0x100000}, {Start: huge - 0x3000, End: huge + 0x5000}, {Start: 2*huge - 0x1000, End: 2 * huge}} {
		part := make([]byte, e.End-e.Start)
		if err := readShared(part, f, m, e); err != nil {
			t.Errorf("%x: %v", e, err)
			continue
		}
		for at := e.Start; at < e.End; at += kernel.PageSize {
			if got := part[at-e.Start]; got != byte(at>>12) {
				t.Errorf("%x: %#x at %#x", e, got, at)
			}
		}
	}
}

// reserveHugePages has the kernel make its pool of huge pages so much larger.
func reserveHugePages(t *testing.T, more int) {
	t.Helper()
	const pool = "/proc/sys/vm/nr_hugepages"
	before, err := os.ReadFile(pool)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(pool, before, 0); err != nil {
			t.Error(err)
		}
	})
	var pages int
	if _, err := fmt.Sscan(string(before), &pages); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pool, fmt.Append(nil, pages+more), 0); err != nil {
		t.Fatal(err)
	}
}
