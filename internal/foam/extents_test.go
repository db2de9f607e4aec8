package foam

import (
	"slices"
	"testing"

	"github.com/kup-project/kup/internal/image"
	"pgregory.net/rapid"
)

// x returns the extents given as pairs of start and end, as they stand.
func x(bounds ...uint64) Extents {
	var out Extents
	for i := 0; i+1 < len(bounds); i += 2 {
		out = append(out, image.Extent{Start: bounds[i], End: bounds[i+1]})
	}
	return out
}

func same(a, b Extents) bool { return slices.Equal(a, b) }

func TestMerged(t *testing.T) {
	for name, c := range map[string]struct{ in, want Extents }{
		"nothing":         {nil, nil},
		"one":             {x(1, 2), x(1, 2)},
		"empty ones":      {x(1, 1, 5, 5, 9, 3), nil},
		"apart":           {x(5, 6, 1, 2), x(1, 2, 5, 6)},
		"touching":        {x(1, 2, 2, 3), x(1, 3)},
		"overlapping":     {x(1, 5, 3, 9), x(1, 9)},
		"one in other":    {x(1, 9, 3, 5), x(1, 9)},
		"same":            {x(1, 9, 1, 9), x(1, 9)},
		"same start":      {x(1, 2, 1, 9, 1, 5), x(1, 9)},
		"bridge":          {x(1, 2, 3, 4, 2, 3), x(1, 4)},
		"to the very end": {x(5, ^uint64(0), 1, 6), x(1, ^uint64(0))},
	} {
		if got := Merged(c.in...); !same(got, c.want) {
			t.Errorf("%s: %v instead of %v", name, got, c.want)
		}
	}
}

func TestMinus(t *testing.T) {
	for name, c := range map[string]struct{ a, b, want Extents }{
		"nothing from nothing": {nil, nil, nil},
		"nothing from one":     {x(1, 9), nil, x(1, 9)},
		"one from nothing":     {nil, x(1, 9), nil},
		"itself":               {x(1, 9), x(1, 9), nil},
		"more than it":         {x(2, 8), x(1, 9), nil},
		"beginning":            {x(1, 9), x(1, 3), x(3, 9)},
		"before beginning":     {x(2, 9), x(1, 3), x(3, 9)},
		"end":                  {x(1, 9), x(7, 9), x(1, 7)},
		"behind end":           {x(1, 9), x(7, 12), x(1, 7)},
		"middle":               {x(1, 9), x(3, 5), x(1, 3, 5, 9)},
		"two of the middle":    {x(1, 9), x(2, 3, 5, 6), x(1, 2, 3, 5, 6, 9)},
		"touching":             {x(3, 6), x(1, 3, 6, 9), x(3, 6)},
		"across two":           {x(1, 4, 6, 9), x(3, 7), x(1, 3, 7, 9)},
		"across all":           {x(1, 4, 6, 9, 11, 12), x(0, 20), nil},
		"one of three":         {x(1, 2, 3, 4, 5, 6), x(3, 4), x(1, 2, 5, 6)},
	} {
		if got := c.a.Minus(c.b); !same(got, c.want) {
			t.Errorf("%s: %v - %v = %v instead of %v", name, c.a, c.b, got, c.want)
		}
	}
}

func TestIntersect(t *testing.T) {
	for name, c := range map[string]struct{ a, b, want Extents }{
		"nothing":         {nil, x(1, 9), nil},
		"apart":           {x(1, 3), x(5, 9), nil},
		"touching":        {x(1, 3), x(3, 9), nil},
		"overlapping":     {x(1, 5), x(3, 9), x(3, 5)},
		"one in other":    {x(1, 9), x(3, 5), x(3, 5)},
		"one in two":      {x(1, 9), x(0, 2, 4, 5, 8, 12), x(1, 2, 4, 5, 8, 9)},
		"same end":        {x(1, 5, 7, 9), x(3, 5, 8, 9), x(3, 5, 8, 9)},
		"alternate holes": {x(0, 2, 4, 6), x(2, 4, 6, 8), nil},
	} {
		if got := c.a.Intersect(c.b); !same(got, c.want) {
			t.Errorf("%s: %v & %v = %v instead of %v", name, c.a, c.b, got, c.want)
		}
		if got := c.b.Intersect(c.a); !same(got, c.want) {
			t.Errorf("%s, the other way round: %v", name, got)
		}
	}
}

func TestWithinAndContains(t *testing.T) {
	set := x(2, 4, 6, 8, 10, 12)
	for _, c := range []struct {
		e        image.Extent
		within   Extents
		contains bool
	}{
		{image.Extent{Start: 2, End: 4}, x(2, 4), true},
		{image.Extent{Start: 2, End: 3}, x(2, 3), true},
		{image.Extent{Start: 3, End: 4}, x(3, 4), true},
		{image.Extent{Start: 3, End: 5}, x(3, 4), false},
		{image.Extent{Start: 1, End: 3}, x(2, 3), false},
		{image.Extent{Start: 4, End: 6}, nil, false},
		{image.Extent{Start: 0, End: 2}, nil, false},
		{image.Extent{Start: 12, End: 20}, nil, false},
		{image.Extent{Start: 3, End: 11}, x(3, 4, 6, 8, 10, 11), false},
		{image.Extent{Start: 0, End: 20}, set, false},
		{image.Extent{Start: 5, End: 5}, nil, true}, // the empty run
		{image.Extent{Start: 7, End: 7}, nil, true},
	} {
		if got := set.Within(c.e); !same(got, c.within) {
			t.Errorf("within %v: %v instead of %v", c.e, got, c.within)
		}
		if got := set.Contains(c.e); got != c.contains {
			t.Errorf("contains %v: %v", c.e, got)
		}
	}
	if !same(set, x(2, 4, 6, 8, 10, 12)) {
		t.Errorf("the set has changed: %v", set)
	}
}

func TestChunks(t *testing.T) {
	for name, c := range map[string]struct{ in, want Extents }{
		"nothing":        {nil, nil},
		"small":          {x(1, 3), x(1, 3)},
		"whole":          {x(0, 8), x(0, 8)},
		"several":        {x(0, 20), x(0, 8, 8, 16, 16, 20)},
		"across a limit": {x(6, 10), x(6, 8, 8, 10)},
		"two":            {x(6, 7, 15, 17), x(6, 7, 15, 16, 16, 17)},
	} {
		if got := c.in.Chunks(8); !same(got, c.want) {
			t.Errorf("%s: %v instead of %v", name, got, c.want)
		}
	}
}

func TestCoarse(t *testing.T) {
	const k = 1 << 10
	near := x(0, 4*k, 8*k, 12*k, 100*k, 104*k, 112*k, 116*k, 1000*k, 1004*k)
	for n, want := range map[int]Extents{
		9: near,
		5: near,
		4: x(0, 12*k, 100*k, 116*k, 1000*k, 1004*k),
		3: x(0, 12*k, 100*k, 116*k, 1000*k, 1004*k),
		2: x(0, 116*k, 1000*k, 1004*k),
		1: x(0, 1004*k),
	} {
		if got := near.Coarse(n); !same(got, want) {
			t.Errorf("at most %d of %v: %v instead of %v", n, near, got, want)
		}
	}
	if far := x(0, 1, 1<<62, ^uint64(0)); !same(far.Coarse(1), x(0, ^uint64(0))) {
		t.Errorf("the widest gap is not bridged: %v", far.Coarse(1))
	}
}

// TestExtentsAreSets compares all operations with those on bit sets.
func TestExtentsAreSets(t *testing.T) {
	const size = 64
	draw := func(t *rapid.T, name string) (Extents, uint64) {
		var runs []image.Extent
		var set uint64
		for range rapid.IntRange(0, 6).Draw(t, name) {
			start := rapid.IntRange(0, size-1).Draw(t, "start")
			end := rapid.IntRange(0, size).Draw(t, "end")
			runs = append(runs, image.Extent{Start: uint64(start), End: uint64(end)})
			for i := start; i < end; i++ {
				set |= 1 << i
			}
		}
		return Merged(runs...), set
	}
	bits := func(t *rapid.T, x Extents) uint64 {
		var set, total uint64
		for i, e := range x {
			if e.Start >= e.End || i > 0 && x[i-1].End >= e.Start {
				t.Fatalf("not in normal form: %v", x)
			}
			for b := e.Start; b < e.End; b++ {
				set |= 1 << b
				total++
			}
		}
		if x.Total() != total {
			t.Fatalf("%v has a total of %d", x, x.Total())
		}
		return set
	}
	rapid.Check(t, func(t *rapid.T) {
		a, aSet := draw(t, "a")
		b, bSet := draw(t, "b")
		e := image.Extent{Start: rapid.Uint64Range(0, size-1).Draw(t, "e"), End: rapid.Uint64Range(0, size).Draw(t, "to")}
		for what, got := range map[string][2]uint64{
			"merged":    {bits(t, a), aSet},
			"add":       {bits(t, a.Add(b...)), aSet | bSet},
			"minus":     {bits(t, a.Minus(b)), aSet &^ bSet},
			"intersect": {bits(t, a.Intersect(b)), aSet & bSet},
			"within":    {bits(t, a.Within(e)), bits(t, a.Intersect(Merged(e)))},
			"chunks":    {bits(t, Merged(a.Chunks(4)...)), aSet},
		} {
			if got[0] != got[1] {
				t.Errorf("%s of %v and %v: %x instead of %x", what, a, b, got[0], got[1])
			}
		}
		if want := len(Merged(e).Minus(a)) == 0; a.Contains(e) != want {
			t.Errorf("%v contains %v: %v", a, e, !want)
		}
		if bits(t, a) != aSet || bits(t, b) != bSet {
			t.Error("an operand has changed")
		}
	})
}
