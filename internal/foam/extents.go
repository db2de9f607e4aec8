package foam

import (
	"cmp"
	"slices"
	"sort"

	"github.com/kup-project/kup/internal/image"
)

// Extents is a set of bytes as ascending runs that neither overlap nor touch and are not empty. The zero value is the empty
// set. Methods leave their operands as they are.
type Extents []image.Extent

// Merged returns the set of all bytes in runs, which may come in any order, overlap and be empty.
func Merged(runs ...image.Extent) Extents { return merge(slices.Clone(runs)) }

// merge is Merged in place: it uses the memory of runs.
func merge(runs []image.Extent) Extents {
	if !slices.IsSortedFunc(runs, byStart) {
		slices.SortFunc(runs, byStart)
	}
	out := Extents(runs[:0])
	for _, e := range runs {
		out = out.add(e)
	}
	return out
}

func byStart(a, b image.Extent) int { return cmp.Compare(a.Start, b.Start) }

// add adds a run that does not begin before the last one, and may be empty. It may change the last run in place.
func (x Extents) add(e image.Extent) Extents {
	if e.Start >= e.End {
		return x
	}
	if n := len(x); n > 0 && e.Start <= x[n-1].End {
		x[n-1].End = max(x[n-1].End, e.End)
		return x
	}
	return append(x, e)
}

// Add returns the bytes that are in x or in y, which may come in any order.
func (x Extents) Add(y ...image.Extent) Extents {
	if len(y) == 0 {
		return slices.Clone(x)
	}
	if !slices.IsSortedFunc(y, byStart) {
		return merge(slices.Concat(x, y))
	}
	out := make(Extents, 0, len(x)+len(y))
	for len(x) > 0 && len(y) > 0 {
		next := &x
		if y[0].Start < x[0].Start {
			next = (*Extents)(&y)
		}
		out, *next = out.add((*next)[0]), (*next)[1:]
	}
	for _, e := range x {
		out = out.add(e)
	}
	for _, e := range y {
		out = out.add(e)
	}
	return out
}

// Minus returns the bytes that are in x and not in y.
func (x Extents) Minus(y Extents) Extents {
	if len(x) == 0 || len(y) == 0 {
		return slices.Clone(x)
	}
	out := make(Extents, 0, len(x)+len(y))
	i := 0
	for _, e := range x {
		for i < len(y) && y[i].End <= e.Start {
			i++
		}
		for j := i; j < len(y) && y[j].Start < e.End; j++ {
			if y[j].Start > e.Start {
				out = append(out, image.Extent{Start: e.Start, End: y[j].Start})
			}
			e.Start = y[j].End
		}
		if e.Start < e.End {
			out = append(out, e)
		}
	}
	return out
}

// Intersect returns the bytes that are in x and in y. Each run is in one of x and in one of y, which may touch their neighbours.
func (x Extents) Intersect(y Extents) Extents {
	var out Extents
	for i, j := 0, 0; i < len(x) && j < len(y); {
		e := image.Extent{Start: max(x[i].Start, y[j].Start), End: min(x[i].End, y[j].End)}
		if e.Start < e.End {
			out = append(out, e)
		}
		if x[i].End < y[j].End {
			i++
		} else {
			j++
		}
	}
	return out
}

// Within returns the part of x that lies in e.
func (x Extents) Within(e image.Extent) Extents {
	if e.Start >= e.End {
		return nil
	}
	first := sort.Search(len(x), func(i int) bool { return x[i].End > e.Start })
	last := sort.Search(len(x), func(i int) bool { return x[i].Start >= e.End })
	if first >= last {
		return nil
	}
	out := slices.Clone(x[first:last])
	out[0].Start = max(out[0].Start, e.Start)
	out[len(out)-1].End = min(out[len(out)-1].End, e.End)
	return out
}

// Contains reports whether all bytes of e are in x. The empty run is in every set.
func (x Extents) Contains(e image.Extent) bool {
	if e.Start >= e.End {
		return true
	}
	i := sort.Search(len(x), func(i int) bool { return x[i].End > e.Start })
	return i < len(x) && x[i].Start <= e.Start && e.End <= x[i].End
}

// Total is the number of bytes in x.
func (x Extents) Total() uint64 {
	var n uint64
	for _, e := range x {
		n += e.End - e.Start
	}
	return n
}

// Bridged returns the extents with all gaps of at most gap bytes closed.
func (x Extents) Bridged(gap uint64) Extents {
	var out Extents
	for _, e := range x {
		if n := len(out); n > 0 && e.Start-out[n-1].End <= gap {
			out[n-1].End = e.End
			continue
		}
		out = append(out, e)
	}
	return out
}

// Coarse returns at most n runs, n > 0, that cover x and as little else as is easily found: gaps are bridged, ever larger ones until so few runs are left.
func (x Extents) Coarse(n int) Extents {
	for gap := uint64(16 << 10); len(x) > n; gap *= 2 {
		x = x.Bridged(gap)
	}
	return x
}

// Chunks cuts x into runs of at most size bytes, none of which goes across a multiple of size: work for several goroutines, and
// mappings of bounded length. Size is a power of two.
func (x Extents) Chunks(size uint64) []image.Extent {
	var out []image.Extent
	for _, e := range x {
		for e.Start < e.End {
			end := min(e.End, e.Start&^(size-1)+size)
			out = append(out, image.Extent{Start: e.Start, End: end})
			e.Start = end
		}
	}
	return out
}
