package image

import (
	"path/filepath"
	"slices"
	"testing"
)

func TestCutCountsDataOnly(t *testing.T) {
	const m = 1 << 20
	for name, c := range map[string]struct {
		runs []Extent
		want []chunk
	}{
		"nothing":       {nil, nil},
		"one page":      {[]Extent{{0x1000, 0x2000}}, []chunk{{{0x1000, 0x2000}}}},
		"just full":     {[]Extent{{0, 4 * m}}, []chunk{{{0, 4 * m}}}},
		"a byte more":   {[]Extent{{0, 4*m + 1}}, []chunk{{{0, 4 * m}}, {{4 * m, 4*m + 1}}}},
		"across a hole": {[]Extent{{0, 3 * m}, {10 * m, 13 * m}}, []chunk{{{0, 3 * m}, {10 * m, 11 * m}}, {{11 * m, 13 * m}}}},
		"backwards":     {[]Extent{{8 * m, 9 * m}, {0, 4 * m}}, []chunk{{{8 * m, 9 * m}, {0, 3 * m}}, {{3 * m, 4 * m}}}},
	} {
		got := cut(c.runs)
		if !slices.EqualFunc(got, c.want, func(a, b chunk) bool { return slices.Equal(a, b) }) {
			t.Errorf("%s: %x instead of %x", name, got, c.want)
		}
	}
}

func TestOutside(t *testing.T) {
	for name, c := range map[string]struct{ runs, data, want []Extent }{
		"nothing":       {nil, []Extent{{1, 2}}, nil},
		"no data":       {[]Extent{{1, 5}}, nil, []Extent{{1, 5}}},
		"all data":      {[]Extent{{1, 5}}, []Extent{{0, 9}}, nil},
		"around":        {[]Extent{{1, 9}}, []Extent{{3, 5}}, []Extent{{1, 3}, {5, 9}}},
		"unsorted data": {[]Extent{{1, 9}}, []Extent{{6, 7}, {3, 5}}, []Extent{{1, 3}, {5, 6}, {7, 9}}},
		"two runs":      {[]Extent{{1, 4}, {6, 9}}, []Extent{{3, 7}}, []Extent{{1, 3}, {7, 9}}},
	} {
		if got := outside(c.runs, c.data); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v instead of %v", name, got, c.want)
		}
	}
}

// BenchmarkHash hashes contents in the page cache, as Seal and Verify do.
func BenchmarkHash(b *testing.B) {
	const size = 256 << 20
	st := minimal()
	m := &st.Processes[0].Memory
	m.VMAs = []VMA{{Start: 0x40000000, End: 0x40000000 + size, Kind: VMAAnon}}
	m.FOAM.Windows = []Window{{0x40000000, 0x40000000 + size, 0}}
	m.FOAM.Extents = []Extent{{0x40000000, 0x40000000 + size}}
	dir := filepath.Join(b.TempDir(), "image")
	w, err := NewWriter(dir)
	if err != nil {
		b.Fatal(err)
	}
	writeContents(b, w, st)
	if err := w.Commit(st, "test"); err != nil {
		b.Fatal(err)
	}
	img, err := Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	for b.Loop() {
		if _, err := img.hashContents(nil); err != nil {
			b.Fatal(err)
		}
	}
}
