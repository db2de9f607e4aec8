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
func Merged(runs ...image.Extent) Extents {
	sorted := slices.DeleteFunc(slices.Clone(runs), func(e image.Extent) bool { return e.Start >= e.End })
	slices.SortFunc(sorted, func(a, b image.Extent) int { return cmp.Compare(a.Start, b.Start) })
	var out Extents
	for _, e := range sorted {
		out = out.append(e)
	}
	return out
}

// append adds a run that does not begin before the last one. It may change the last run in place.
func (x Extents) append(e image.Extent) Extents {
	if n := len(x); n > 0 && e.Start <= x[n-1].End {
		x[n-1].End = max(x[n-1].End, e.End)
		return x
	}
	return append(x, e)
}

// Add returns the bytes that are in x or in y.
func (x Extents) Add(y ...image.Extent) Extents {
	return Merged(append(slices.Clone(x), y...)...)
}

// Minus returns the bytes that are in x and not in y.
func (x Extents) Minus(y Extents) Extents {
	var out Extents
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

// Intersect returns the bytes that are in x and in y.
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

// Coarse returns at most n runs, n > 0, that cover x and as little else as is easily found: gaps are bridged, ever larger ones until so few runs are left.
func (x Extents) Coarse(n int) Extents {
	for gap := uint64(16 << 10); len(x) > n; gap *= 2 {
		var fewer Extents
		for _, e := range x {
			if last := len(fewer) - 1; last >= 0 && e.Start-fewer[last].End <= gap {
				fewer[last].End = e.End
			} else {
				fewer = append(fewer, e)
			}
		}
		x = fewer
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
