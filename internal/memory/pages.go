package memory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
)

// pageFinder tells which pages of a frozen process are its own.
type pageFinder struct {
	pagemap *os.File
	scan    bool // PAGEMAP_SCAN works
	zero    uint64

	before *places // where pages were when their soft-dirty bits were cleared; nil where nobody did
	now    *places // is told where they are; may be nil
}

func newPageFinder(pid int) (*pageFinder, error) {
	f, err := os.Open(procfs.Path(pid, "pagemap"))
	if err != nil {
		return nil, err
	}
	p := &pageFinder{pagemap: f, scan: true}
	if !hasPagemapScan() {
		if err := p.readOnly(); err != nil {
			f.Close()
			return nil, err
		}
	}
	return p, nil
}

// readOnly makes it do without PAGEMAP_SCAN, which knows nothing of soft-dirty bits as they are used here.
func (p *pageFinder) readOnly() (err error) {
	p.scan = false
	p.zero, err = procfs.ZeroFrame()
	return err
}

func (p *pageFinder) Close() { p.pagemap.Close() }

// ownPages are the pages in a private mapping that neither a file nor the zero page can bring back.
type ownPages struct {
	all     []image.Extent
	written []image.Extent // of these, written since they were last watched; all where nothing is watched
	guards  []image.Extent // guarded by MADV_GUARD_INSTALL
}

// own adds the pages of a mapping of a frozen process to p. Where a tracker by write protection watches, seen are the pages that it may have protected.
func (f *pageFinder) own(start, end uint64, seen foam.Extents, p *ownPages) error {
	if !f.scan {
		return f.readPagemap(start, end, p)
	}
	if seen = seen.Within(image.Extent{Start: start, End: end}); len(seen) > 0 {
		changed, err := f.changed(start, end)
		if err == nil {
			return f.ownWatched(seen, changed, p)
		}
		if !errors.Is(err, kernel.EPERM) {
			return err
		}
		// Another mapping has taken the place of the watched one.
	}
	return f.look(start, end, p)
}

// look asks for each page what it is.
func (f *pageFinder) look(start, end uint64, p *ownPages) error {
	scan := ownScan(start, end)
	scan.Return = kernel.PageIsWritten | kernel.PageIsWPAllowed
	if hasGuardCategory() {
		scan.Any |= kernel.PageIsGuard
		scan.Return |= kernel.PageIsGuard
	}
	return kernel.PagemapScan(f.pagemap, scan, func(r kernel.PageRegion) {
		if r.Categories&kernel.PageIsGuard != 0 {
			p.guards = appendRun(p.guards, r.Start, r.End)
			return
		}
		p.all = appendRun(p.all, r.Start, r.End)
		// Protection bits mean nothing in a mapping that is not watched: mremap(2) can have carried them there.
		if r.Categories&kernel.PageIsWritten != 0 || r.Categories&kernel.PageIsWPAllowed == 0 {
			p.written = appendRun(p.written, r.Start, r.End)
		}
	})
}

// changed returns the pages of a watched mapping that are not protected: written, or not there. For this question alone the kernel has a fast path (fs/proc/
// task_mmu.c, pagemap_scan_pmd_entry), about ten times as fast as any other. It says nothing of addresses without a page table. EPERM: nobody watches
// the mapping.
func (f *pageFinder) changed(start, end uint64) (changed foam.Extents, err error) {
	scan := kernel.PageScan{Start: start, End: end, All: kernel.PageIsWritten, Return: kernel.PageIsWritten, Watched: true}
	var runs []image.Extent
	err = kernel.PagemapScan(f.pagemap, scan, func(r kernel.PageRegion) { runs = appendRun(runs, r.Start, r.End) })
	return runs, err
}

// pageTable is how much memory one page table maps, bytes.
const pageTable = 2 << 20

// cheapToLookAt is how much memory is looked at faster than the kernel is asked once more, bytes.
const cheapToLookAt = 64 << 10

// ownWatched is own for a watched mapping: what was seen and has not changed is still there, the rest is looked at.
func (f *pageFinder) ownWatched(seen, changed foam.Extents, p *ownPages) error {
	look := changed
	same := seen.Minus(changed)
	var gone []image.Extent
	known, there := ^uint64(0), false
	for _, e := range same.Chunks(pageTable) {
		if table := e.Start / pageTable; table != known {
			known = table
			var err error
			if there, err = f.there(e.Start); err != nil {
				return err
			}
		}
		if !there { // nor is the page table: the kernel frees those of memory that is given up
			gone = append(gone, e)
		}
	}
	if len(gone) > 0 {
		look, same = look.Add(gone...), same.Minus(gone)
	}
	var found ownPages
	for _, e := range look.Bridged(cheapToLookAt) {
		if err := f.look(e.Start, e.End, &found); err != nil {
			return err
		}
	}
	p.all = appendRuns(p.all, same.Add(found.all...))
	p.written = append(p.written, foam.Merged(found.all...).Intersect(look)...)
	p.guards = append(p.guards, found.guards...)
	return nil
}

// there tells whether a page exists, in memory or swapped out.
func (f *pageFinder) there(page uint64) (bool, error) {
	var word [8]byte
	if _, err := f.pagemap.ReadAt(word[:], int64(page/kernel.PageSize*8)); err != nil {
		return false, fmt.Errorf("read %s: %w", f.pagemap.Name(), err)
	}
	return binary.LittleEndian.Uint64(word[:])&(procfs.PagemapPresent|procfs.PagemapSwapped) != 0, nil
}

// ownScan asks for own pages.
func ownScan(start, end uint64) kernel.PageScan {
	const not = kernel.PageIsFile | kernel.PageIsPFNZero
	return kernel.PageScan{Start: start, End: end, Inverted: not, All: not, Any: kernel.PageIsPresent | kernel.PageIsSwapped}
}

// appendRuns is append that takes the list as it is if there was none.
func appendRuns(runs, more []image.Extent) []image.Extent {
	if len(runs) == 0 {
		return more
	}
	return append(runs, more...)
}

func appendRun(runs []image.Extent, start, end uint64) []image.Extent {
	if n := len(runs); n > 0 && runs[n-1].End == start {
		runs[n-1].End = end
		return runs
	}
	return append(runs, image.Extent{Start: start, End: end})
}

// pagemapPlace is where a page is. If it is swapped out the bits of the frame say where to.
const pagemapPlace = procfs.PagemapFrame | procfs.PagemapSwapped

// readPagemap is for kernels before v6.7.
func (f *pageFinder) readPagemap(start, end uint64, p *ownPages) error {
	buf := make([]byte, 8*(64<<10))
	for at := start; at < end; {
		want := min(uint64(len(buf)), (end-at)/kernel.PageSize*8)
		n, err := f.pagemap.ReadAt(buf[:want], int64(at/kernel.PageSize*8))
		if n == 0 && err != nil {
			return fmt.Errorf("read %s: %w", f.pagemap.Name(), err)
		}
		for i := 0; i+8 <= n; i += 8 {
			e := binary.LittleEndian.Uint64(buf[i:])
			own := e&(procfs.PagemapPresent|procfs.PagemapSwapped) != 0 && e&procfs.PagemapFile == 0
			if own && !(e&procfs.PagemapPresent != 0 && e&procfs.PagemapFrame == f.zero) {
				p.all = appendRun(p.all, at, at+kernel.PageSize)
				if f.now != nil {
					f.now.add(at, e&pagemapPlace)
				}
				if e&procfs.PagemapDirty != 0 || f.before == nil || !f.before.has(at, e&pagemapPlace) {
					p.written = appendRun(p.written, at, at+kernel.PageSize)
				}
			}
			at += kernel.PageSize
		}
	}
	return nil
}

var hasPagemapScan = sync.OnceValue(func() bool {
	return scanSelf(kernel.PageIsFile) == nil
})

var hasGuardCategory = sync.OnceValue(func() bool {
	return scanSelf(kernel.PageIsGuard) == nil
})

// scanSelf tries PAGEMAP_SCAN with a category on a page of our own.
func scanSelf(category uint64) error {
	mem, err := kernel.MapAnon(kernel.PageSize, kernel.ProtRead, kernel.MapPrivate)
	if err != nil {
		return err
	}
	defer kernel.Unmap(mem)
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return err
	}
	defer f.Close()
	at := kernel.AddressOf(mem)
	return kernel.PagemapScan(f, kernel.PageScan{Start: at, End: at + kernel.PageSize, Any: category, Return: category},
		func(kernel.PageRegion) {})
}
