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

	zeroes // the huge page that the kernel shows where nothing was written yet; it is nobody's
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

// slice is count pages of r from the one with number skip on, of a kind.
func (r Run) slice(skip, count uint64, k Kind) Run {
	return Run{Addr: r.Addr + skip*kernel.PageSize, Frame: r.Frame + skip, Count: count, Kind: k}
}

// part is like slice. Halves of huge pages are small ones.
func (r Run) part(skip, count uint64) []Run {
	cut := r.slice(skip, count, r.Kind)
	if r.Kind != Huge {
		return []Run{cut}
	}
	parts, _ := appendByKind(nil, cut, func(uint64) (Kind, error) { return Huge, nil })
	return parts
}

// hugePages is how many page frames make one of Size.
const hugePages = Size / kernel.PageSize

// appendByKind appends r, split where the kind of its pages changes: kindOf is asked about the first frame of each huge page that there may be.
func appendByKind(all []Run, r Run, kindOf func(frame uint64) (Kind, error)) (_ []Run, err error) {
	if r.Count < hugePages || (r.Addr/kernel.PageSize-r.Frame)%hugePages != 0 {
		return appendRun(all, r.slice(0, r.Count, Small)), nil // whatever the frames are, they are not mapped as huge pages
	}
	for at := uint64(0); at < r.Count; {
		part := r.slice(at, min(r.Count-at, hugePages-(r.Frame+at)%hugePages), Small)
		if part.Count == hugePages {
			if part.Kind, err = kindOf(part.Frame); err != nil {
				return nil, err
			}
		}
		at += part.Count
		all = appendRun(all, part)
	}
	return all, nil
}

// appendRun appends r, as one with the last run if it goes on there.
func appendRun(all []Run, r Run) []Run {
	if n := len(all); n > 0 && all[n-1].goesOn(r) && all[n-1].Kind == r.Kind {
		all[n-1].Count += r.Count
		return all
	}
	return append(all, r)
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
func joined(runs []Run) (out []Run) {
	slices.SortFunc(runs, func(a, b Run) int { return cmp.Compare(a.Addr, b.Addr) })
	for _, r := range runs {
		out = appendRun(out, r)
	}
	return out
}

// goesOn tells whether o is behind r, both in addresses and in frames.
func (r Run) goesOn(o Run) bool {
	return r.Addr+r.Count*kernel.PageSize == o.Addr && r.Frame+r.Count == o.Frame
}
