package kexec

import (
	"cmp"
	"fmt"
	"slices"
)

// Range is a piece of physical memory: [Start, End), in bytes.
type Range struct {
	Start uint64
	End   uint64
}

// Size is the number of bytes in r.
func (r Range) Size() uint64 {
	if r.End <= r.Start {
		return 0
	}
	return r.End - r.Start
}

// Overlaps tells whether r and o have a byte in common.
func (r Range) Overlaps(o Range) bool {
	return r.Size() > 0 && o.Size() > 0 && r.Start < o.End && o.Start < r.End
}

// Contains tells whether every byte of o is in r.
func (r Range) Contains(o Range) bool { return r.Start <= o.Start && o.End <= r.End }

// Split cuts r at each multiple of unit, bytes; nowhere if that is 0.
func (r Range) Split(unit uint64) (parts []Range) {
	for unit > 0 && r.Size() > 0 {
		end := min(r.End, r.Start-r.Start%unit+unit)
		parts = append(parts, Range{r.Start, end})
		r.Start = end
	}
	if r.Size() > 0 {
		parts = append(parts, r)
	}
	return parts
}

// String writes r like /proc/iomem does, but with an exclusive end.
func (r Range) String() string { return fmt.Sprintf("[%#x, %#x)", r.Start, r.End) }

// Ranges is a list of ranges that is sorted by address and has neither empty, nor overlapping, nor touching members.
type Ranges []Range

// NewRanges sorts rs, drops empty members and joins those that overlap or touch.
func NewRanges(rs ...Range) Ranges {
	sorted := slices.Clone(rs)
	slices.SortFunc(sorted, func(a, b Range) int { return cmp.Compare(a.Start, b.Start) })
	var out Ranges
	for _, r := range sorted {
		switch {
		case r.Size() == 0:
		case len(out) > 0 && r.Start <= out[len(out)-1].End:
			out[len(out)-1].End = max(out[len(out)-1].End, r.End)
		default:
			out = append(out, r)
		}
	}
	return out
}

// Minus returns the part of rs that is not in r.
func (rs Ranges) Minus(r Range) Ranges {
	var out Ranges
	for _, have := range rs {
		if !have.Overlaps(r) {
			out = append(out, have)
			continue
		}
		if have.Start < r.Start {
			out = append(out, Range{have.Start, r.Start})
		}
		if r.End < have.End {
			out = append(out, Range{r.End, have.End})
		}
	}
	return out
}

// Within returns the part of rs that is in r.
func (rs Ranges) Within(r Range) Ranges {
	var out Ranges
	for _, have := range rs {
		if have.Overlaps(r) {
			out = append(out, Range{max(have.Start, r.Start), min(have.End, r.End)})
		}
	}
	return out
}

// Overlaps tells whether a member of rs overlaps r.
func (rs Ranges) Overlaps(r Range) bool {
	return slices.ContainsFunc(rs, r.Overlaps)
}

// Contains tells whether every byte of r is in rs.
func (rs Ranges) Contains(r Range) bool {
	return slices.ContainsFunc(rs, func(have Range) bool { return have.Contains(r) })
}

// Size is the number of bytes in rs.
func (rs Ranges) Size() uint64 {
	var n uint64
	for _, r := range rs {
		n += r.Size()
	}
	return n
}

// FindSpace returns the lowest range of size bytes in rs whose start is a multiple of align, a power of two.
func (rs Ranges) FindSpace(size, align uint64) (Range, bool) {
	for _, r := range rs {
		start := alignUp(r.Start, align)
		// start < r.Start: alignUp ran over the end of the address space.
		if start >= r.Start && start <= r.End && r.End-start >= size {
			return Range{start, start + size}, true
		}
	}
	return Range{}, false
}

// FindSpaceHigh is FindSpace for the highest such range.
func (rs Ranges) FindSpaceHigh(size, align uint64) (Range, bool) {
	for _, r := range slices.Backward(rs) {
		if r.Size() < size {
			continue
		}
		start := (r.End - size) &^ (align - 1)
		if start >= r.Start {
			return Range{start, start + size}, true
		}
	}
	return Range{}, false
}

// alignUp is the lowest multiple of align, a power of two, that is not below n; 0 if it is over the end of the address space.
func alignUp(n, align uint64) uint64 { return (n + align - 1) &^ (align - 1) }
