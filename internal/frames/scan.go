package frames

import (
	"encoding/binary"
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

// Scan finds the page frames of frozen processes.
func Scan(processes []Process) (*Inventory, error) {
	seen, err := look(processes)
	if err != nil {
		return nil, err
	}
	flags, err := openPageFlags()
	if err != nil {
		return nil, err
	}
	defer flags.Close()
	v := &Inventory{asked: processes, seen: seen}
	var claims []claim
	for i, s := range seen {
		r := Resident{PID: processes[i].PID, Swapped: s.swapped}
		for _, run := range s.runs {
			if !run.alone {
				claims = append(claims, claim{i, run.Run})
				continue
			}
			if r.Runs, err = appendByKind(r.Runs, run.Run, flags.kind); err != nil {
				return nil, err
			}
		}
		v.Processes = append(v.Processes, r)
	}
	return v, v.settle(claims, flags)
}

// settle adds what the kernel does not say for certain that one process alone has it.
func (v *Inventory) settle(claims []claim, flags *pageFlags) error {
	if len(claims) == 0 {
		return nil
	}
	for _, whole := range shareOut(claims) {
		parts, err := whole.byKind(flags.kind)
		if err != nil {
			return err
		}
		for _, h := range parts {
			v.add(h)
		}
	}
	for i := range v.Processes {
		v.Processes[i].Runs = joined(v.Processes[i].Runs)
	}
	return nil
}

func (v *Inventory) add(h holding) {
	switch {
	case h.run().Kind == zeroes:
	case len(h.claims) > 1:
		v.Shared = addShared(v.Shared, h.shared(v.asked))
	default:
		r := &v.Processes[h.claims[0].process]
		r.Runs = append(r.Runs, h.run())
	}
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
	zero   uint64 // number of the zero page's frame
	sparse bool   // there may be large holes

	found *sighting
}

// sectionSize is the size of a section, bytes.
const sectionSize = 64 << 20

// look reads the page tables of processes.
func look(processes []Process) ([]sighting, error) {
	zero, err := procfs.ZeroFrame()
	if err != nil {
		return nil, err
	}
	var sections []section
	for i, p := range processes {
		pagemap, err := kernel.OpenFile(procfs.Path(p.PID, "pagemap"))
		if err != nil {
			return nil, err
		}
		defer pagemap.Close()
		status, err := procfs.ReadStatus(p.PID)
		if err != nil {
			return nil, err
		}
		// To look where pages are costs a third of reading where they are: it must be worth it.
		dense := 2 * status.VMRSS
		for _, m := range p.Mappings {
			size := m.End - m.Start
			s := section{process: i, pagemap: pagemap, zero: zero, sparse: size > dense}
			if !s.sparse {
				dense -= size
			}
			sections = s.split(sections, m)
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

// split appends the sections of a mapping.
func (s section) split(all []section, mapping image.Extent) []section {
	for at := mapping.Start; at < mapping.End; at += sectionSize {
		s.Extent = image.Extent{Start: at, End: min(at+sectionSize, mapping.End)}
		s.found = &sighting{}
		all = append(all, s)
	}
	return all
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

// populated returns where there are pages, with small gaps, or everything if there is no quick way to find out.
func (s section) populated() ([]image.Extent, error) {
	const gap = 64 * kernel.PageSize // cheaper to read than to skip
	if !s.sparse || kernel.FeaturePagemapScan.Err() != nil {
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

func (s section) readEntries(e image.Extent) error {
	buf := make([]byte, (e.End-e.Start)/kernel.PageSize*8)
	if _, err := s.pagemap.ReadAt(buf, int64(e.Start/kernel.PageSize*8)); err != nil {
		return fmt.Errorf("%s at %#x: %w", s.pagemap.Name(), e.Start, err)
	}
	for at := e.Start; at < e.End; at += kernel.PageSize {
		entry := binary.LittleEndian.Uint64(buf)
		buf = buf[8:]
		switch {
		case entry&procfs.PagemapFile != 0 || entry&procfs.PagemapPresent != 0 && entry&procfs.PagemapFrame == s.zero:
		case entry&procfs.PagemapPresent != 0:
			s.found.add(seenRun{Run{Addr: at, Frame: entry & procfs.PagemapFrame, Count: 1}, entry&procfs.PagemapAlone != 0})
		case entry&procfs.PagemapSwapped != 0:
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
