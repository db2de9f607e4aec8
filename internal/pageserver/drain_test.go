package pageserver

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kup-project/kup/internal/image"
)

func TestLowestBlock(t *testing.T) {
	windows := []image.Window{{Start: 10, End: 30, Offset: 1000}, {Start: 30, End: 40, Offset: 200}, {Start: 50, End: 60, Offset: 310}, {Start: 60, End: 70, Offset: 1100}}
	for _, tt := range []struct {
		name  string
		m     pieces
		block uint64
		pages []image.Extent
	}{
		{"nothing", nil, math.MaxUint64, nil},
		{"all", pieces{p(10, 30, 10), p(30, 40, 30), p(50, 60, 50), p(60, 70, 60)}, 200, []image.Extent{ext(30, 40)}},
		{"two in a block", pieces{p(10, 12, 10), p(20, 22, 20), p(65, 70, 65)}, 1000, []image.Extent{ext(10, 12), ext(20, 22)}},
		{"moved", pieces{p(20, 22, 62), p(100, 105, 55), p(200, 210, 10)}, 300, []image.Extent{ext(100, 105)}},
		{"across windows", pieces{p(5, 25, 25), p(100, 120, 50)}, 200, []image.Extent{ext(10, 20)}},
		{"nowhere", pieces{p(40, 45, 40), p(60, 61, 60), p(100, 110, 100)}, 1100, []image.Extent{ext(60, 61)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			block, pages := tt.m.lowest(windows, 100)
			if block != tt.block || !slices.Equal(pages, tt.pages) {
				t.Errorf("block %d with %v instead of %d with %v", block, pages, tt.block, tt.pages)
			}
		})
	}
}

// testHorizon makes a horizon of the test's own.
func testHorizon(t *testing.T, h Horizon) {
	t.Helper()
	before := horizonPath
	horizonPath = filepath.Join(t.TempDir(), "horizon")
	t.Cleanup(func() { horizonPath = before })
	if err := h.Move(); err != nil {
		t.Fatal(err)
	}
}

const (
	testBlock  = 1 << 20
	testBlocks = 4
)

// newFamily is one space whose last addresses have the lowest place.
func newFamily(t *testing.T) (f *family, memory, contents []byte) {
	t.Helper()
	s, memory, contents := newSpaceIn(t, testBlocks*testBlock, func(all image.Extent) (windows []image.Window) {
		for i := range uint64(testBlocks) {
			windows = append(windows, image.Window{Start: all.Start + i*testBlock, End: all.Start + (i+1)*testBlock, Offset: (testBlocks - 1 - i) * testBlock})
		}
		return windows
	})
	o, err := lookOut()
	if err != nil {
		t.Fatal(err)
	}
	start := s.missing[0].Start
	s.missing = nil // none of it goes across a window
	for i := range uint64(testBlocks) {
		s.missing = append(s.missing, newPieces([]image.Extent{{Start: start + i*testBlock, End: start + (i+1)*testBlock}})...)
	}
	s.outlook = o
	f = &family{spaces: []*space{s}, open: true, threads: 2, outlook: o, source: s.source, lowest: &atomic.Uint64{}, risen: func() {}}
	return f, memory, contents
}

// drainUntil drains until that is over, or nothing more comes.
func drainUntil(t *testing.T, f *family, over func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Second); time.Now().Before(end) && !over(); {
		if err := f.drain(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBlocksAreDrainedUpToTheHorizon(t *testing.T) {
	testHorizon(t, Horizon{Block: testBlock, End: testBlock})
	f, memory, contents := newFamily(t)
	s := f.spaces[0]
	for n := uint64(1); n <= testBlocks; n++ {
		if err := (&Horizon{Block: testBlock, End: n * testBlock}).Move(); err != nil {
			t.Fatal(err)
		}
		drainUntil(t, f, func() bool { return f.lowest.Load() == n*testBlock || len(s.missing) == 0 })
		if left := s.missing.total(); left != (testBlocks-n)*testBlock {
			t.Fatalf("up to block %d: %d bytes are missing", n, left)
		}
		drainUntil(t, f, func() bool { return n == testBlocks || time.Since(f.outlook.seen) < often/2 })
		if left := s.missing.total(); left != (testBlocks-n)*testBlock {
			t.Fatalf("beyond block %d: %d bytes are missing", n, left)
		}
	}
	if !bytes.Equal(memory, contents) {
		t.Error("the memory is not what was stored")
	}
}

func TestForsakenHorizonKeepsNobody(t *testing.T) {
	for _, tt := range []struct {
		name    string
		forsake func(t *testing.T)
	}{
		{"it is not moved", func(t *testing.T) {
			long := time.Now().Add(-2 * forsaken)
			if err := os.Chtimes(horizonPath, long, long); err != nil {
				t.Fatal(err)
			}
		}},
		{"it is gone", func(t *testing.T) {
			if err := RemoveHorizon(); err != nil {
				t.Fatal(err)
			}
		}},
		{"its keeper has ended", func(t *testing.T) {
			if err := os.WriteFile(horizonPath, []byte(`{"keeper": {"pid": 1, "start_time": 123456789}, "block": 1048576, "end": 1048576}`), 0o600); err != nil {
				t.Fatal(err)
			}
			then := time.Now().Add(-2 * doubted)
			if err := os.Chtimes(horizonPath, then, then); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testHorizon(t, Horizon{Block: testBlock, End: testBlock})
			f, _, _ := newFamily(t)
			tt.forsake(t)
			drainUntil(t, f, func() bool { return len(f.spaces[0].missing) == 0 })
			if left := f.spaces[0].missing.total(); left != 0 {
				t.Errorf("%d bytes are missing", left)
			}
		})
	}
}

// TestFaultsWaitForMemory has somebody wait for a page from beyond the horizon while memory is scarce.
func TestFaultsWaitForMemory(t *testing.T) {
	testHorizon(t, Horizon{Block: testBlock, End: testBlock})
	f, _, _ := newFamily(t)
	s := f.spaces[0]
	far, near := fault{page: s.missing[0].Start}, fault{page: s.missing[testBlocks-1].Start}
	s.waiting = []fault{far, near}
	f.outlook.looked, f.outlook.short = time.Now().Add(time.Hour), true
	if err := s.serveAll(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]fault{far}, s.waiting, cmp.AllowUnexported(fault{})); diff != "" {
		t.Errorf("waiting: %s", diff)
	}
	f.outlook.short = false
	if err := s.serveAll(); err != nil || len(s.waiting) > 0 {
		t.Errorf("still waiting: %v, %v", s.waiting, err)
	}
	// Nothing is brought in around what is beyond.
	if got, want := testBlocks*testBlock-s.missing.total(), uint64(pageSize+around); got != want {
		t.Errorf("%d bytes were brought in instead of %d", got, want)
	}
}
