package memory

import (
	"bytes"
	"os"
	"testing"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// TestRunsAreReadInAnyOrder has runs as pre-copy finds them in a process that moves its mappings while they are listed: not ascending, and some twice.
func TestRunsAreReadInAnyOrder(t *testing.T) {
	const pages = 64
	mem, err := kernel.MapAnon(pages*kernel.PageSize, kernel.ProtRead|kernel.ProtWrite, kernel.MapPrivate)
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Unmap(mem)
	for i := range pages {
		mem[i*kernel.PageSize] = byte(i + 1)
	}
	var runs foam.Batch
	var parts [][]byte
	for _, r := range [][2]uint64{{40, 44}, {10, 12}, {12, 13}, {60, 64}, {0, 3}, {10, 12}, {41, 42}} {
		start := kernel.AddressOf(mem)
		runs = append(runs, image.Extent{Start: start + r[0]*kernel.PageSize, End: start + r[1]*kernel.PageSize})
		parts = append(parts, make([]byte, (r[1]-r[0])*kernel.PageSize))
	}
	if err := readRuns(os.Getpid(), runs, parts); err != nil {
		t.Fatal(err)
	}
	for i, e := range runs {
		if at := e.Start - kernel.AddressOf(mem); !bytes.Equal(parts[i], mem[at:][:len(parts[i])]) {
			t.Errorf("run %d is not what was there", i)
		}
	}
}
