package memory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
)

// pageFinder tells which pages of a frozen process are its own.
type pageFinder struct {
	pagemap *os.File
	scan    bool // PAGEMAP_SCAN works
	zero    uint64
}

func newPageFinder(pid int) (*pageFinder, error) {
	f, err := os.Open(procfs.Path(pid, "pagemap"))
	if err != nil {
		return nil, err
	}
	p := &pageFinder{pagemap: f}
	if p.scan = hasPagemapScan(); !p.scan {
		if p.zero, err = zeroFrame(); err != nil {
			f.Close()
			return nil, err
		}
	}
	return p, nil
}

func (p *pageFinder) Close() { p.pagemap.Close() }

// ownPages are the pages in a private mapping that neither a file nor the zero page can bring back.
type ownPages struct {
	all     []image.Extent
	written []image.Extent // of these, written since they were last watched; all where nothing is watched
	guards  []image.Extent // guarded by MADV_GUARD_INSTALL
}

// own adds the pages of a mapping of a frozen process to p.
func (f *pageFinder) own(start, end uint64, p *ownPages) error {
	if !f.scan {
		return f.readPagemap(start, end, p)
	}
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

// ownScan asks for own pages.
func ownScan(start, end uint64) kernel.PageScan {
	const not = kernel.PageIsFile | kernel.PageIsPFNZero
	return kernel.PageScan{Start: start, End: end, Inverted: not, All: not, Any: kernel.PageIsPresent | kernel.PageIsSwapped}
}

func appendRun(runs []image.Extent, start, end uint64) []image.Extent {
	if n := len(runs); n > 0 && runs[n-1].End == start {
		runs[n-1].End = end
		return runs
	}
	return append(runs, image.Extent{Start: start, End: end})
}

// Bits of /proc/PID/pagemap, Documentation/admin-guide/mm/pagemap.rst.
const (
	pagemapFrame   = 1<<55 - 1
	pagemapDirty   = 1 << 55 // soft-dirty
	pagemapFile    = 1 << 61
	pagemapSwapped = 1 << 62
	pagemapPresent = 1 << 63
)

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
			own := e&(pagemapPresent|pagemapSwapped) != 0 && e&pagemapFile == 0
			if own && !(e&pagemapPresent != 0 && e&pagemapFrame == f.zero) {
				p.all = appendRun(p.all, at, at+kernel.PageSize)
				if e&pagemapDirty != 0 || !hasSoftDirty() {
					p.written = appendRun(p.written, at, at+kernel.PageSize)
				}
			}
			at += kernel.PageSize
		}
	}
	return nil
}

// zeroFrame returns the number of the page frame that untouched memory is read from, learnt from such a page of our own.
func zeroFrame() (uint64, error) {
	mem, err := kernel.MapAnon(kernel.PageSize, kernel.ProtRead, kernel.MapPrivate)
	if err != nil {
		return 0, err
	}
	defer kernel.Unmap(mem)
	touched := mem[0]
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var word [8]byte
	if _, err := f.ReadAt(word[:], int64(kernel.AddressOf(mem)/kernel.PageSize*8)); err != nil {
		return 0, err
	}
	frame := binary.LittleEndian.Uint64(word[:]) & pagemapFrame
	if frame == 0 || touched != 0 {
		return 0, errors.New("page frame numbers are hidden from kup (needs CAP_SYS_ADMIN), so that zero pages cannot be told")
	}
	return frame, nil
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
