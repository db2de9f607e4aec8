package frames

import (
	"cmp"
	"slices"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/kexec"
)

// Kind is what the running kernel has made of page frames.
type Kind uint8

const (
	Small   Kind = iota // pages of 4 KiB, also those that a transparent huge page was split into
	Huge                // whole transparent huge pages: address and frame are aligned to Size
	HugeTLB             // of the pool of huge pages, see Documentation/admin-guide/mm/hugetlbpage.rst
)

// Run is a run of pages behind which the page frames are one after the other, too.
type Run struct {
	Addr  uint64 // virtual
	Frame uint64 // number of the first page frame: its physical address / kernel.PageSize
	Count uint64 // of pages
	Kind  Kind
}

// memory is where the frames are, in bytes.
func (r Run) memory() kexec.Range { return framesRange(r.Frame, r.Count) }

func framesRange(frame, count uint64) kexec.Range {
	return kexec.Range{Start: frame * kernel.PageSize, End: (frame + count) * kernel.PageSize}
}

// Resident is what one process has.
type Resident struct {
	PID     int
	Runs    []Run          // frames that it alone has, by address
	Swapped []image.Extent // pages that are in no frame: whoever wants to carry them has them read in, and scans again
}

// Shared are frames that lie behind several addresses, because a process has forked or KSM has found equal pages. Whoever writes to such a page gets a copy.
type Shared struct {
	Frame  uint64 // number of the first
	Count  uint64
	Kind   Kind
	Places []Place // two or more; each has all of the frames
}

// Place is an address in a process.
type Place struct {
	PID  int
	Addr uint64
}

// Inventory says which page frames hold the private memory of frozen processes. Every frame is in it once. Neither the kernel's zero pages nor pages of files are in it.
type Inventory struct {
	Processes []Resident // in the order in which Scan was asked for them
	Shared    []Shared   // by frame

	asked []Process
	seen  []sighting // for each of them, what the kernel said
}

// Memory is where all the frames are.
func (v *Inventory) Memory() kexec.Ranges {
	var all []kexec.Range
	for _, p := range v.Processes {
		for _, r := range p.Runs {
			all = append(all, r.memory())
		}
	}
	for _, s := range v.Shared {
		all = append(all, framesRange(s.Frame, s.Count))
	}
	return kexec.NewRanges(all...)
}

// Within returns the part of the inventory whose frames are in rs, without pages that are swapped out.
func (v *Inventory) Within(rs kexec.Ranges) *Inventory {
	part := &Inventory{}
	for _, p := range v.Processes {
		cut := Resident{PID: p.PID}
		for _, r := range p.Runs {
			for _, m := range rs.Within(r.memory()) {
				skip, count := pagesOf(m, r.Frame)
				cut.Runs = append(cut.Runs, r.part(skip, count)...)
			}
		}
		part.Processes = append(part.Processes, cut)
	}
	for _, s := range v.Shared {
		for _, m := range rs.Within(framesRange(s.Frame, s.Count)) {
			part.Shared = append(part.Shared, s.part(pagesOf(m, s.Frame)))
		}
	}
	return part
}

// pagesOf counts pages: how many frames from first on are not in m yet, and how many are.
func pagesOf(m kexec.Range, first uint64) (skip, count uint64) {
	return m.Start/kernel.PageSize - first, m.Size() / kernel.PageSize
}

// part is count pages of r from the one with number skip on. Halves of huge pages are small ones.
func (r Run) part(skip, count uint64) []Run {
	r.Addr += skip * kernel.PageSize
	r.Frame += skip
	r.Count = count
	if r.Kind == Huge {
		return splitHuge(r)
	}
	return []Run{r}
}

// splitHuge takes what is not aligned off both ends of r.
func splitHuge(r Run) []Run {
	const pages = Size / kernel.PageSize
	start := min((r.Frame+pages-1)/pages*pages, r.Frame+r.Count)
	end := max((r.Frame+r.Count)/pages*pages, start)
	var parts []Run
	for _, p := range []struct {
		start, end uint64
		kind       Kind
	}{{r.Frame, start, Small}, {start, end, Huge}, {end, r.Frame + r.Count, Small}} {
		if p.start < p.end {
			parts = append(parts, Run{Addr: r.Addr + (p.start-r.Frame)*kernel.PageSize, Frame: p.start, Count: p.end - p.start, Kind: p.kind})
		}
	}
	return parts
}

// part is count frames of s from the one with number skip on.
func (s Shared) part(skip, count uint64) Shared {
	out := Shared{Frame: s.Frame + skip, Count: count, Kind: s.Kind}
	if s.Kind == Huge && count != s.Count {
		out.Kind = Small
	}
	for _, p := range s.Places {
		out.Places = append(out.Places, Place{p.PID, p.Addr + skip*kernel.PageSize})
	}
	return out
}

// claim is a run that a process may have in common with others.
type claim struct {
	process int // index
	Run
}

// shareOut tells frames that one claim alone is for, which it gives back, from those that several are for.
func shareOut(claims []claim, pid func(process int) int) (alone []claim, shared []Shared) {
	pieces := atCuts(claims)
	slices.SortFunc(pieces, func(a, b claim) int {
		return cmp.Or(cmp.Compare(a.Frame, b.Frame), cmp.Compare(a.process, b.process), cmp.Compare(a.Addr, b.Addr))
	})
	for len(pieces) > 0 {
		n := 1
		for n < len(pieces) && pieces[n].Frame == pieces[0].Frame {
			n++
		}
		if n == 1 {
			alone = append(alone, pieces[0])
		} else {
			shared = addShared(shared, sharedBy(pieces[:n], pid))
		}
		pieces = pieces[n:]
	}
	return alone, shared
}

// atCuts splits claims wherever one begins or ends, so that any two pieces have either all frames in common or none.
func atCuts(claims []claim) (pieces []claim) {
	var cuts []uint64
	for _, c := range claims {
		cuts = append(cuts, c.Frame, c.Frame+c.Count)
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	for _, c := range claims {
		i, _ := slices.BinarySearch(cuts, c.Frame)
		for end := c.Frame + c.Count; cuts[i] < end; i++ {
			for _, r := range c.part(cuts[i]-c.Frame, cuts[i+1]-cuts[i]) {
				pieces = append(pieces, claim{c.process, r})
			}
		}
	}
	return pieces
}

func sharedBy(pieces []claim, pid func(process int) int) Shared {
	s := Shared{Frame: pieces[0].Frame, Count: pieces[0].Count, Kind: pieces[0].Kind}
	for _, p := range pieces {
		s.Places = append(s.Places, Place{pid(p.process), p.Addr})
	}
	return s
}

// addShared appends s, as one with the last if each place goes on there.
func addShared(all []Shared, s Shared) []Shared {
	if n := len(all); n > 0 {
		last := &all[n-1]
		goesOn := last.Frame+last.Count == s.Frame && last.Kind == s.Kind && slices.EqualFunc(last.Places, s.Places, func(a, b Place) bool {
			return a.PID == b.PID && a.Addr+last.Count*kernel.PageSize == b.Addr
		})
		if goesOn {
			last.Count += s.Count
			return all
		}
	}
	return append(all, s)
}

// joined sorts runs by address, and makes one of those that go on.
func joined(runs []Run) []Run {
	slices.SortFunc(runs, func(a, b Run) int { return cmp.Compare(a.Addr, b.Addr) })
	var out []Run
	for _, r := range runs {
		if n := len(out); n > 0 && out[n-1].goesOn(r) && out[n-1].Kind == r.Kind {
			out[n-1].Count += r.Count
			continue
		}
		out = append(out, r)
	}
	return out
}

// goesOn tells whether o is behind r, both in addresses and in frames.
func (r Run) goesOn(o Run) bool {
	return r.Addr+r.Count*kernel.PageSize == o.Addr && r.Frame+r.Count == o.Frame
}
