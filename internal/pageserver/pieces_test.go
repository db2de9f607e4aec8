package pageserver

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/kup-project/kup/internal/image"
)

func p(start, end, from uint64) piece { return piece{image.Extent{Start: start, End: end}, from} }

func ext(start, end uint64) image.Extent { return image.Extent{Start: start, End: end} }

func TestRemove(t *testing.T) {
	for _, c := range []struct {
		name  string
		from  pieces
		what  image.Extent
		want  pieces
		bytes uint64
	}{
		{"nothing", pieces{p(10, 20, 10)}, ext(15, 15), pieces{p(10, 20, 10)}, 0},
		{"beside", pieces{p(10, 20, 10)}, ext(20, 30), pieces{p(10, 20, 10)}, 0},
		{"all", pieces{p(10, 20, 10)}, ext(0, 30), pieces{}, 10},
		{"head", pieces{p(10, 20, 110)}, ext(5, 13), pieces{p(13, 20, 113)}, 3},
		{"tail", pieces{p(10, 20, 110)}, ext(17, 20), pieces{p(10, 17, 110)}, 3},
		{"middle", pieces{p(10, 20, 110)}, ext(12, 15), pieces{p(10, 12, 110), p(15, 20, 115)}, 3},
		{"several", pieces{p(10, 20, 10), p(30, 40, 30), p(50, 60, 50)}, ext(15, 55), pieces{p(10, 15, 10), p(55, 60, 55)}, 20},
		{"between", pieces{p(10, 20, 10), p(30, 40, 30)}, ext(20, 30), pieces{p(10, 20, 10), p(30, 40, 30)}, 0},
	} {
		m := slices.Clone(c.from)
		if bytes := m.remove(c.what); bytes != c.bytes || !slices.Equal(m, c.want) {
			t.Errorf("%s: expected %v and %d bytes, got %v and %d", c.name, c.want, c.bytes, m, bytes)
		}
	}
}

func TestMove(t *testing.T) {
	for _, c := range []struct {
		name           string
		from           pieces
		start, to, len uint64
		want           pieces
		bytes          uint64
	}{
		{"nothing there", pieces{p(10, 20, 10)}, 30, 50, 10, pieces{p(10, 20, 10)}, 0},
		{"upwards", pieces{p(10, 20, 10), p(30, 40, 30)}, 10, 50, 10, pieces{p(30, 40, 30), p(50, 60, 10)}, 0},
		{"downwards", pieces{p(10, 20, 10), p(30, 40, 30)}, 30, 0, 10, pieces{p(0, 10, 30), p(10, 20, 10)}, 0},
		{"a part", pieces{p(10, 20, 10)}, 12, 112, 4, pieces{p(10, 12, 10), p(16, 20, 16), p(112, 116, 12)}, 0},
		{"over something", pieces{p(10, 20, 10), p(30, 40, 30)}, 10, 35, 10, pieces{p(30, 35, 30), p(35, 45, 10)}, 5},
		{"twice", pieces{p(110, 120, 10)}, 110, 210, 10, pieces{p(210, 220, 10)}, 0},
	} {
		m := slices.Clone(c.from)
		if bytes := m.move(c.start, c.to, c.len); bytes != c.bytes || !slices.Equal(m, c.want) {
			t.Errorf("%s: expected %v and %d bytes given up, got %v and %d", c.name, c.want, c.bytes, m, bytes)
		}
	}
}

func TestWithin(t *testing.T) {
	m := pieces{p(10, 20, 110), p(30, 40, 30)}
	for _, c := range []struct {
		in   image.Extent
		want pieces
	}{
		{ext(0, 10), nil},
		{ext(20, 30), nil},
		{ext(12, 35), pieces{p(12, 20, 112), p(30, 35, 30)}},
		{ext(13, 14), pieces{p(13, 14, 113)}},
		{ext(5, 5), nil},
	} {
		if got := m.within(c.in); !slices.Equal(got, c.want) {
			t.Errorf("within %v: expected %v, got %v", c.in, c.want, got)
		}
	}
}

// TestAgainstBytes compares the set with a plain table of where each byte came from.
func TestAgainstBytes(t *testing.T) {
	const size = 64
	const absent = ^uint64(0)
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		m := newPieces([]image.Extent{ext(40, 56), ext(4, 12), ext(20, 36)})
		var table [size]uint64
		for i := range table {
			table[i] = absent
			if len(m.within(ext(uint64(i), uint64(i)+1))) > 0 {
				table[i] = uint64(i)
			}
		}
		for range 12 {
			start, length := uint64(random.IntN(size/2)), uint64(random.IntN(size/4))
			if random.IntN(2) == 0 {
				m.remove(ext(start, start+length))
				for i := start; i < start+length; i++ {
					table[i] = absent
				}
				continue
			}
			if random.IntN(4) == 0 {
				middle := start + length/2
				want := m.within(ext(start, middle)).total() + m.within(ext(middle+1, middle+5)).total()
				if got := m.removeAll([]image.Extent{ext(start, middle), ext(middle+1, middle+5)}); got != want {
					t.Fatalf("%d bytes were removed instead of %d", got, want)
				}
				for i := start; i < middle+5; i++ {
					if i != middle {
						table[i] = absent
					}
				}
				continue
			}
			to := uint64(random.IntN(size - size/4))
			if to < start+length && start < to+length {
				continue // mremap(2) does not let them overlap
			}
			m.move(start, to, length)
			for i := range length {
				table[to+i], table[start+i] = table[start+i], absent
			}
		}
		var total uint64
		for i, from := range table {
			got := m.within(ext(uint64(i), uint64(i)+1))
			switch {
			case from == absent && len(got) != 0, from != absent && (len(got) != 1 || got[0].from != from):
				t.Fatalf("address %d: expected origin %d, got %v in %v", i, int64(from), got, m)
			case from != absent:
				total++
			}
		}
		if m.total() != total || !slices.IsSortedFunc(m, byStart) {
			t.Fatalf("expected %d bytes in order, got %d: %v", total, m.total(), m)
		}
	}
}

func TestAppendStretches(t *testing.T) {
	m := pieces{p(region/2, 2*region+5, 100*region), p(2*region+7, 2*region+9, 8), p(3*region, 3*region+1, 7)}
	for _, c := range []struct {
		name string
		of   image.Extent
		want []stretch
	}{
		{"nothing", ext(0, region/2), nil},
		{"all", everything, []stretch{
			{p(region/2, region, 100*region)},
			{p(region, 2*region, 100*region+region/2)},
			{p(2*region, 2*region+5, 101*region+region/2), p(2*region+7, 2*region+9, 8)},
			{p(3*region, 3*region+1, 7)},
		}},
		{"some", ext(region+1, 2*region+8), []stretch{
			{p(region+1, 2*region, 100*region+region/2+1)},
			{p(2*region, 2*region+5, 101*region+region/2), p(2*region+7, 2*region+8, 8)},
		}},
	} {
		if got := m.appendStretches(nil, c.of); !slices.EqualFunc(got, c.want, func(a, b stretch) bool { return slices.Equal(a, b) }) {
			t.Errorf("%s: expected %v, got %v", c.name, c.want, got)
		}
	}
	if got := (pieces{p(0, 100*region, 0)}).appendStretches([]stretch{{p(0, 1, 0)}, {p(0, 1, 0)}, {p(0, 1, 0)}}, ext(region, 100*region)); len(got) != atOnce {
		t.Errorf("%d stretches at once", len(got))
	}
	if got := m.appendStretches([]stretch{{p(0, 1, 0)}}, ext(region/2, region+1)); len(got) != 2 || len(got[0]) != 2 {
		t.Errorf("two extents in one region: %v", got)
	}
}

func TestCut(t *testing.T) {
	run := stretch{p(10, 20, 110), p(30, 34, 30), p(40, 50, 40)}
	for _, c := range []struct {
		name       string
		pieces     int
		size       uint64
		head, rest stretch
	}{
		{"all", 3, 24, run, nil},
		{"more than there is", 9, 99, run, nil},
		{"whole pieces", 3, 14, run[:2], run[2:]},
		{"one piece", 1, 99, run[:1], run[1:]},
		{"a part of the first", 1, 4, stretch{p(10, 14, 110)}, stretch{p(14, 20, 114), run[1], run[2]}},
		{"a part of a later one", 3, 16, stretch{run[0], run[1], p(40, 42, 40)}, stretch{p(42, 50, 42)}},
	} {
		of := slices.Clone(run)
		head, rest := of.cut(c.pieces, c.size)
		if !slices.Equal(head, c.head) || !slices.Equal(rest, c.rest) || !slices.Equal(of, run) {
			t.Errorf("%s: expected %v and %v, got %v and %v", c.name, c.head, c.rest, head, rest)
		}
	}
}
