package frames

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/parallel"
	"github.com/kup-project/kup/internal/procfs"
)

// Process is a frozen process.
type Process struct {
	PID      int
	Mappings []image.Extent // its private ones, by address; those of devices must not be among them
}

// PrivateMappings lists the mappings of a process in which it can have memory of its own, files that are mapped privately included.
func PrivateMappings(pid int) ([]image.Extent, error) {
	maps, err := procfs.ReadMaps(pid)
	if err != nil {
		return nil, err
	}
	var private []image.Extent
	for _, m := range maps {
		special := m.Path == "[vdso]" || m.Path == "[vsyscall]" || strings.HasPrefix(m.Path, "[vvar")
		if !m.Shared && !special {
			private = append(private, image.Extent{Start: m.Start, End: m.End})
		}
	}
	return private, nil
}

// Scan finds the page frames of frozen processes. It takes some 10 ms per GB, times more where the memory is scattered.
func Scan(processes []Process) (*Inventory, error) {
	seen, err := look(processes)
	if err != nil {
		return nil, err
	}
	v := &Inventory{asked: processes, seen: seen}
	flags, err := openPageFlags()
	if err != nil {
		return nil, err
	}
	defer flags.Close()
	var claims []claim
	for i, s := range seen {
		own, common, err := s.kinds(flags)
		if err != nil {
			return nil, fmt.Errorf("memory of pid %d: %w", processes[i].PID, err)
		}
		for _, r := range common {
			claims = append(claims, claim{i, r})
		}
		v.Processes = append(v.Processes, Resident{PID: processes[i].PID, Runs: own, Swapped: s.swapped})
	}
	alone, shared := shareOut(claims, func(i int) int { return processes[i].PID })
	for _, c := range alone {
		v.Processes[c.process].Runs = append(v.Processes[c.process].Runs, c.Run)
	}
	for i := range v.Processes {
		v.Processes[i].Runs = joined(v.Processes[i].Runs)
	}
	v.Shared = shared
	return v, nil
}

// Moved looks again, and returns the pages of each process of Scan that are not in the frames of before, by address. Nothing but the page tables is read for it.
func (v *Inventory) Moved() ([][]image.Extent, error) {
	seen, err := look(v.asked)
	if err != nil {
		return nil, err
	}
	moved := make([][]image.Extent, len(seen))
	for i := range seen {
		moved[i] = differences(v.seen[i].runs, seen[i].runs)
	}
	return moved, nil
}

// sighting is what the kernel said of a process's pages, files left out.
type sighting struct {
	runs    []seenRun // by address
	swapped []image.Extent
}

// seenRun is a run whose kind is not known yet.
type seenRun struct {
	Run
	alone bool // no other page table has the frames
}

// section is what one thread reads at a time of one process's page tables.
type section struct {
	process int // index
	pagemap *os.File
	image.Extent

	found *sighting
}

// sectionSize is the size of a section, bytes.
const sectionSize = 64 << 20

// look reads the page tables of processes.
func look(processes []Process) ([]sighting, error) {
	var sections []section
	for i, p := range processes {
		pagemap, err := kernel.OpenFile(procfs.Path(p.PID, "pagemap"))
		if err != nil {
			return nil, err
		}
		defer pagemap.Close()
		for _, m := range p.Mappings {
			for at := m.Start; at < m.End; at += sectionSize {
				sections = append(sections, section{i, pagemap, image.Extent{Start: at, End: min(at+sectionSize, m.End)}, &sighting{}})
			}
		}
	}
	if err := parallel.Each(sections, section.read); err != nil {
		return nil, err
	}
	seen := make([]sighting, len(processes))
	for _, s := range sections {
		all := &seen[s.process]
		for _, r := range s.found.runs {
			all.add(r)
		}
		all.swapped = append(all.swapped, s.found.swapped...)
	}
	return seen, nil
}

// add appends r, as one with the last run if it goes on there.
func (s *sighting) add(r seenRun) {
	if n := len(s.runs); n > 0 && s.runs[n-1].alone == r.alone && s.runs[n-1].goesOn(r.Run) {
		s.runs[n-1].Count += r.Count
		return
	}
	s.runs = append(s.runs, r)
}

// read fills s.found. A page that is on its way from frame to frame looks as if it were swapped out: it gets a little time to arrive.
func (s section) read() error {
	for tries := 3; ; tries-- {
		*s.found = sighting{}
		populated, err := s.populated()
		if err != nil {
			return err
		}
		for _, e := range populated {
			if err := s.readEntries(e); err != nil {
				return err
			}
		}
		if len(s.found.swapped) == 0 || tries == 0 {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
}

// populated returns where there are pages, with small gaps, and everything if the kernel cannot tell quickly.
func (s section) populated() ([]image.Extent, error) {
	const gap = 64 * kernel.PageSize // cheaper to read than to skip
	if kernel.FeaturePagemapScan.Err() != nil {
		return []image.Extent{s.Extent}, nil
	}
	scan := kernel.PageScan{Start: s.Start, End: s.End, Any: kernel.PageIsPresent | kernel.PageIsSwapped, Return: kernel.PageIsPresent}
	var all []image.Extent
	err := kernel.PagemapScan(s.pagemap, scan, func(r kernel.PageRegion) {
		if n := len(all); n > 0 && r.Start-all[n-1].End <= gap {
			all[n-1].End = r.End
			return
		}
		all = append(all, image.Extent{Start: r.Start, End: r.End})
	})
	return all, err
}

// Bits of /proc/PID/pagemap, Documentation/admin-guide/mm/pagemap.rst.
const (
	entryFrame   = 1<<55 - 1
	entryAlone   = 1 << 56
	entryFile    = 1 << 61
	entrySwapped = 1 << 62
	entryPresent = 1 << 63
)

// errHidden says that kup may not see page frames.
var errHidden = errors.New("page frame numbers are hidden from kup (needs CAP_SYS_ADMIN)")

func (s section) readEntries(e image.Extent) error {
	buf := make([]byte, (e.End-e.Start)/kernel.PageSize*8)
	if _, err := s.pagemap.ReadAt(buf, int64(e.Start/kernel.PageSize*8)); err != nil {
		return fmt.Errorf("%s at %#x: %w", s.pagemap.Name(), e.Start, err)
	}
	for at := e.Start; at < e.End; at += kernel.PageSize {
		entry := binary.LittleEndian.Uint64(buf)
		buf = buf[8:]
		switch {
		case entry&entryFile != 0:
		case entry&entryPresent != 0 && entry&entryFrame == 0:
			return errHidden
		case entry&entryPresent != 0:
			s.found.add(seenRun{Run{Addr: at, Frame: entry & entryFrame, Count: 1}, entry&entryAlone != 0})
		case entry&entrySwapped != 0:
			s.found.swapped = appendPage(s.found.swapped, at)
		}
	}
	return nil
}

func appendPage(all []image.Extent, at uint64) []image.Extent {
	return appendExtent(all, at, at+kernel.PageSize)
}

func appendExtent(all []image.Extent, start, end uint64) []image.Extent {
	if n := len(all); n > 0 && all[n-1].End == start {
		all[n-1].End = end
		return all
	}
	return append(all, image.Extent{Start: start, End: end})
}

// kinds finds out what kind the frames are of, and whether others may have them too.
func (s *sighting) kinds(flags *pageFlags) (own, common []Run, err error) {
	for _, r := range s.runs {
		if r.alone {
			if own, err = appendKinds(own, r.Run, flags); err != nil {
				return nil, nil, err
			}
			continue
		}
		// It is not even certain that these are memory of the process.
		anonymous, err := flags.anonymous(r.Run)
		if err != nil {
			return nil, nil, err
		}
		for _, a := range anonymous {
			if common, err = appendKinds(common, a, flags); err != nil {
				return nil, nil, err
			}
		}
	}
	return own, common, nil
}

// appendKinds appends r, split where it has huge pages.
func appendKinds(all []Run, r Run, flags *pageFlags) ([]Run, error) {
	const pages = Size / kernel.PageSize
	if (r.Addr/kernel.PageSize-r.Frame)%pages != 0 {
		return append(all, r), nil // whatever the frames are, they are not mapped as huge pages
	}
	for r.Count > 0 {
		part := r
		part.Count = min(r.Count, pages-r.Frame%pages)
		if part.Count == pages {
			var err error
			if part.Kind, err = flags.kind(part.Frame); err != nil {
				return nil, err
			}
		}
		if n := len(all); n > 0 && all[n-1].goesOn(part) && all[n-1].Kind == part.Kind {
			all[n-1].Count += part.Count
		} else {
			all = append(all, part)
		}
		r.Addr, r.Frame, r.Count = r.Addr+part.Count*kernel.PageSize, r.Frame+part.Count, r.Count-part.Count
	}
	return all, nil
}

// differences returns the pages that are not in the same frames in both lists, sorted by address.
func differences(before, now []seenRun) (out []image.Extent) {
	a, b := cursor{runs: before}, cursor{runs: now}
	for {
		x, y := a.head(), b.head()
		switch {
		case x.Count == 0 && y.Count == 0:
			return out
		case y.Count == 0 || x.Count > 0 && x.Addr < y.Addr:
			out = a.giveUp(out, y)
		case x.Count == 0 || y.Addr < x.Addr:
			out = b.giveUp(out, x)
		default:
			count := min(x.Count, y.Count)
			if x.Frame != y.Frame {
				out = appendExtent(out, x.Addr, x.Addr+count*kernel.PageSize)
			}
			a.skip(count)
			b.skip(count)
		}
	}
}

// cursor goes through runs page by page.
type cursor struct {
	runs []seenRun
	done uint64 // pages of the first
}

// head is what is left of the first run, a run of no pages at the end.
func (c *cursor) head() Run {
	if len(c.runs) == 0 {
		return Run{}
	}
	r := c.runs[0].Run
	return Run{Addr: r.Addr + c.done*kernel.PageSize, Frame: r.Frame + c.done, Count: r.Count - c.done}
}

// skip goes on by pages of the first run.
func (c *cursor) skip(count uint64) {
	if c.done += count; c.done == c.runs[0].Count {
		c.runs, c.done = c.runs[1:], 0
	}
}

// giveUp skips what is before other, which has no such pages, and adds it to out.
func (c *cursor) giveUp(out []image.Extent, other Run) []image.Extent {
	r := c.head()
	if other.Count > 0 {
		r.Count = min(r.Count, (other.Addr-r.Addr)/kernel.PageSize)
	}
	c.skip(r.Count)
	return appendExtent(out, r.Addr, r.Addr+r.Count*kernel.PageSize)
}
