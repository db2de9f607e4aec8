package foam

import (
	"slices"
	"testing"

	"github.com/kup-project/kup/internal/image"
	"pgregory.net/rapid"
)

const (
	mib = 1 << 20
	gib = 1 << 30
	tib = 1 << 40
)

func TestPlan(t *testing.T) {
	for name, c := range map[string]struct {
		in   Extents
		want []image.Window
	}{
		"nothing": {nil, nil},
		"one page": {
			x(0x555555554000, 0x555555555000),
			[]image.Window{{Start: 0x555555400000, End: 0x555555600000, Offset: 0}},
		},
		"program, heap, libraries and stack": {
			x(0x400000, 0x500000, 0x20000000, 0x20100000, 0x7ffff7dd0000, 0x7ffff7ffe000, 0x7ffffffde000, 0x7ffffffff000),
			[]image.Window{
				{Start: 0x400000, End: 0x20200000, Offset: 0},
				{Start: 0x7ffff7c00000, End: 0x800000000000, Offset: 0x1fe00000},
			},
		},
		"far apart": {
			x(0, 2*mib, 3*gib, 3*gib+1),
			[]image.Window{{Start: 0, End: 2 * mib, Offset: 0}, {Start: 3 * gib, End: 3*gib + 2*mib, Offset: 2 * mib}},
		},
		"a gap that is just bridged": {
			x(0, 2*mib, gib+2*mib, gib+4*mib),
			[]image.Window{{Start: 0, End: gib + 4*mib, Offset: 0}},
		},
		"in the same huge page": {
			x(0x1000, 0x2000, 0x3000, 0x4000),
			[]image.Window{{Start: 0, End: 2 * mib, Offset: 0}},
		},
		"vsyscall": {
			x(0xffffffffff600000, 0xffffffffff601000),
			[]image.Window{{Start: 0xffffffffff600000, End: 0xffffffffff800000, Offset: 0}},
		},
		"one mapping larger than is comfortable": {
			x(0, 2*tib, 3*tib, 3*tib+4096),
			[]image.Window{{Start: 0, End: 2 * tib, Offset: 0}, {Start: 3 * tib, End: 3*tib + 2*mib, Offset: 2 * tib}},
		},
	} {
		if got := Plan(c.in); !slices.Equal(got, c.want) {
			t.Errorf("%s:\n got %#x\nwant %#x", name, got, c.want)
		}
	}
}

func TestPlanKeepsSparseAddressSpacesShort(t *testing.T) {
	// 4000 mappings 800 MiB apart: bridged, they would take 3 TiB of file.
	var ranges Extents
	for i := range uint64(4000) {
		ranges = append(ranges, image.Extent{Start: i * 800 * mib, End: i*800*mib + 8192})
	}
	windows := Plan(ranges)
	layout := image.FOAM{Windows: windows}
	if layout.FileSize() > ComfortableSize {
		t.Errorf("the file has %d GiB", layout.FileSize()/gib)
	}
	// 100 of them take 78 GiB, which is little enough for one window.
	if windows := Plan(ranges[:100]); len(windows) != 1 {
		t.Errorf("%d windows", len(windows))
	}
}

func TestGrowKeepsOffsets(t *testing.T) {
	before := Plan(x(10*gib, 10*gib+4*mib, 20*gib, 20*gib+4*mib))
	after := Grow(before, x(10*gib+2*mib, 10*gib+6*mib, 1*gib, 1*gib+1, 20*gib, 20*gib+1))
	want := []image.Window{
		{Start: 1 * gib, End: 1*gib + 2*mib, Offset: 8 * mib},
		{Start: 10 * gib, End: 10*gib + 4*mib, Offset: 0},
		{Start: 10*gib + 4*mib, End: 10*gib + 6*mib, Offset: 10 * mib},
		{Start: 20 * gib, End: 20*gib + 4*mib, Offset: 4 * mib},
	}
	if !slices.Equal(after, want) {
		t.Errorf("got %#x\nwant %#x", after, want)
	}
	if again := Grow(after, x(10*gib, 10*gib+6*mib)); !slices.Equal(again, after) {
		t.Errorf("growing by what is covered: %#x", again)
	}
	if before[0].Start != 10*gib {
		t.Errorf("the operand has changed: %#x", before)
	}
}

func TestSingle(t *testing.T) {
	if got := Single(5000); !slices.Equal(got, []image.Window{{Start: 0, End: 2 * mib}}) {
		t.Errorf("%#x", got)
	}
	if got := Single(0); got != nil {
		t.Errorf("%#x for nothing", got)
	}
}

// TestWindowsKeepTheirPromises grows windows by any ranges in any order.
func TestWindowsKeepTheirPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var windows []image.Window
		var covered Extents
		for range rapid.IntRange(1, 5).Draw(t, "rounds") {
			var ranges Extents
			for range rapid.IntRange(0, 8).Draw(t, "ranges") {
				start := rapid.Uint64Range(0, 1<<47-1<<32).Draw(t, "start") &^ 4095
				if rapid.Bool().Draw(t, "low") {
					start %= 1 << 33
				}
				ranges = append(ranges, image.Extent{Start: start, End: start + rapid.Uint64Range(1, 1<<20).Draw(t, "pages")*4096})
			}
			grown := image.FOAM{Windows: Grow(windows, ranges)}
			for _, w := range windows {
				if offset, ok := grown.Offset(w.Start); !ok || uint64(offset) != w.Offset {
					t.Fatalf("%#x has moved", w.Start)
				}
			}
			windows = grown.Windows
			covered = covered.Add(ranges...)
			checkWindows(t, windows, covered)
		}
	})
}

func checkWindows(t *rapid.T, windows []image.Window, covered Extents) {
	var all, offsets []image.Extent
	var total uint64
	for i, w := range windows {
		if w.Start%Align != 0 || w.End%Align != 0 || w.Offset%Align != 0 || w.Start >= w.End {
			t.Fatalf("window %#x", w)
		}
		if i > 0 && windows[i-1].End > w.Start {
			t.Fatalf("windows overlap or are out of order: %#x", windows)
		}
		all = append(all, image.Extent{Start: w.Start, End: w.End})
		offsets = append(offsets, image.Extent{Start: w.Offset, End: w.Offset + w.End - w.Start})
		total += w.End - w.Start
	}
	if left := covered.Minus(Merged(all...)); len(left) > 0 {
		t.Fatalf("not covered: %#x", left)
	}
	// Without overlaps and without gaps: the file is as short as its windows allow.
	if merged := Merged(offsets...); merged.Total() != total || len(merged) > 1 {
		t.Fatalf("offsets overlap or have gaps: %#x", merged)
	}
}
