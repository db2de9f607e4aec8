package pageserver

import (
	"cmp"
	"slices"
	"sort"

	"github.com/kup-project/kup/internal/image"
)

// piece is a run of missing pages: the addresses of an extent, whose contents the FOAM has from address from on.
type piece struct {
	image.Extent
	from uint64
}

// within returns the part of a piece that lies in e, which it must touch.
func (p piece) within(e image.Extent) piece {
	start := max(p.Start, e.Start)
	return piece{image.Extent{Start: start, End: min(p.End, e.End)}, p.from + (start - p.Start)}
}

// pieces are what is still missing in an address space, or what is watched of it: ascending, without overlap. Where an application moves its mappings,
// they move along, and only their origin stays.
type pieces []piece

// newPieces returns the pieces for extents that are where they were when they were stored.
func newPieces(extents []image.Extent) pieces {
	m := make(pieces, 0, len(extents))
	for _, e := range extents {
		if e.Start < e.End {
			m = append(m, piece{e, e.Start})
		}
	}
	slices.SortFunc(m, byStart)
	return m
}

func byStart(a, b piece) int { return cmp.Compare(a.Start, b.Start) }

// find returns the range of indices of the pieces that touch e.
func (m pieces) find(e image.Extent) (first, last int) {
	first = sort.Search(len(m), func(i int) bool { return m[i].End > e.Start })
	last = first + sort.Search(len(m)-first, func(i int) bool { return m[first+i].Start >= e.End })
	return first, last
}

// within returns what is missing of e.
func (m pieces) within(e image.Extent) pieces {
	if e.Start >= e.End {
		return nil
	}
	first, last := m.find(e)
	var out pieces
	for _, p := range m[first:last] {
		out = append(out, p.within(e))
	}
	return out
}

// touches tells whether anything is missing of e.
func (m pieces) touches(e image.Extent) bool {
	first, last := m.find(e)
	return first < last
}

// stretch is missing pieces in one region, by address.
type stretch []piece

// size is how many bytes are missing in a stretch.
func (s stretch) size() (bytes uint64) {
	for _, p := range s {
		bytes += p.size()
	}
	return bytes
}

// before returns the part of a stretch that is below an address.
func (s stretch) before(end uint64) (part []image.Extent) {
	for _, p := range s {
		if p.Start < end {
			part = append(part, image.Extent{Start: p.Start, End: min(p.End, end)})
		}
	}
	return part
}

// cut splits off the first so many pieces of a stretch, or size bytes of them if that is less.
func (s stretch) cut(pieces int, size uint64) (head, rest stretch) {
	n := 0
	for ; n < min(pieces, len(s)) && s[n].size() <= size; n++ {
		size -= s[n].size()
	}
	if n == min(pieces, len(s)) || size == 0 {
		return s[:n], s[n:]
	}
	middle := s[n].Start + size
	head = append(s[:n:n], s[n].within(image.Extent{Start: s[n].Start, End: middle}))
	rest = append(stretch{s[n].within(image.Extent{Start: middle, End: s[n].End})}, s[n+1:]...)
	return head, rest
}

// appendStretches adds what is missing of e, which lies behind what is in a list, to the list, until it has atOnce stretches.
func (m pieces) appendStretches(list []stretch, e image.Extent) []stretch {
	first, last := m.find(e)
	known := ^uint64(0) // region of the last in the list
	if n := len(list); n > 0 {
		known = list[n-1][0].Start / region
	}
	for _, p := range m[first:last] {
		for p = p.within(e); p.size() > 0; {
			at := p.Start / region
			head := p.within(image.Extent{Start: p.Start, End: (at + 1) * region})
			switch {
			case at == known:
				list[len(list)-1] = append(list[len(list)-1], head)
			case len(list) == atOnce:
				return list
			default:
				list, known = append(list, stretch{head}), at
			}
			p = p.within(image.Extent{Start: head.End, End: p.End})
		}
	}
	return list
}

// remove takes e out of the set and returns how many bytes of it were missing.
func (m *pieces) remove(e image.Extent) (bytes uint64) {
	if e.Start >= e.End {
		return 0
	}
	first, last := m.find(e)
	var keep [2]piece // before and behind e
	kept := keep[:0]
	for i, p := range (*m)[first:last] {
		bytes += p.within(e).size()
		if i == 0 && p.Start < e.Start {
			kept = append(kept, p.within(image.Extent{Start: p.Start, End: e.Start}))
		}
		if p.End > e.End {
			kept = append(kept, p.within(image.Extent{Start: e.End, End: p.End}))
		}
	}
	*m = m.replace(first, last, kept)
	return bytes
}

// removeAll is remove for several extents, by address.
func (m *pieces) removeAll(list []image.Extent) (bytes uint64) {
	if len(list) < 2 {
		for _, e := range list {
			bytes += m.remove(e)
		}
		return bytes
	}
	first, last := m.find(image.Extent{Start: list[0].Start, End: list[len(list)-1].End})
	var kept []piece
	for _, p := range (*m)[first:last] {
		for len(list) > 0 && list[0].End <= p.Start {
			list = list[1:]
		}
		for i := 0; i < len(list) && list[i].Start < p.End; i++ {
			bytes += p.within(list[i]).size()
			if p.Start < list[i].Start {
				kept = append(kept, p.within(image.Extent{Start: p.Start, End: list[i].Start}))
			}
			p = p.within(image.Extent{Start: min(list[i].End, p.End), End: p.End})
		}
		if p.size() > 0 {
			kept = append(kept, p)
		}
	}
	*m = m.replace(first, last, kept)
	return bytes
}

// replace is slices.Replace that moves what is before, if that is less than what is behind: most is taken away at the beginning.
func (m pieces) replace(first, last int, by []piece) pieces {
	fewer := last - first - len(by)
	if fewer < 0 || first > len(m)-last {
		return slices.Replace(m, first, last, by...)
	}
	copy(m[fewer:], m[:first])
	copy(m[fewer+first:], by)
	return m[fewer:]
}

// move follows a mapping of size bytes from one address to another. What was missing at the new one is given up, and counted.
func (m *pieces) move(from, to, size uint64) (bytes uint64) {
	moving := m.within(image.Extent{Start: from, End: from + size})
	m.remove(image.Extent{Start: from, End: from + size})
	bytes = m.remove(image.Extent{Start: to, End: to + size})
	for i := range moving {
		moving[i].Start += to - from
		moving[i].End += to - from
	}
	at, _ := m.find(image.Extent{Start: to, End: to + size})
	*m = slices.Insert(*m, at, moving...)
	return bytes
}

// join adds what other has at addresses where m has nothing.
func (m *pieces) join(other pieces) {
	other = slices.Clone(other)
	for _, p := range *m {
		other.remove(p.Extent)
	}
	*m = append(*m, other...)
	slices.SortFunc(*m, byStart)
}

// total is the number of bytes in the set.
func (m pieces) total() (bytes uint64) {
	for _, p := range m {
		bytes += p.size()
	}
	return bytes
}

func (p piece) size() uint64 { return p.End - p.Start }
