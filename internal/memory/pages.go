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

// own returns the runs of pages in a private mapping that neither a file nor the zero page can bring back, and the runs that
// are guarded by MADV_GUARD_INSTALL.
func (p *pageFinder) own(start, end uint64) (pages, guards []image.Extent, err error) {
	if !p.scan {
		pages, err = p.readPagemap(start, end)
		return pages, nil, err
	}
	scan := kernel.PageScan{Start: start, End: end,
		Inverted: kernel.PageIsFile | kernel.PageIsPFNZero,
		All:      kernel.PageIsFile | kernel.PageIsPFNZero,
		Any:      kernel.PageIsPresent | kernel.PageIsSwapped}
	if hasGuardCategory() {
		scan.Any |= kernel.PageIsGuard
		scan.Return = kernel.PageIsGuard
	} else {
		scan.Return = kernel.PageIsFile // a return mask is needed; these pages do not have it
	}
	err = kernel.PagemapScan(p.pagemap, scan, func(r kernel.PageRegion) {
		list := &pages
		if r.Categories&kernel.PageIsGuard != 0 {
			list = &guards
		}
		*list = appendRun(*list, r.Start, r.End)
	})
	return pages, guards, err
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
	pagemapFile    = 1 << 61
	pagemapSwapped = 1 << 62
	pagemapPresent = 1 << 63
)

// readPagemap is for kernels before v6.7.
func (p *pageFinder) readPagemap(start, end uint64) ([]image.Extent, error) {
	var runs []image.Extent
	buf := make([]byte, 8*(64<<10))
	for at := start; at < end; {
		want := min(uint64(len(buf)), (end-at)/kernel.PageSize*8)
		n, err := p.pagemap.ReadAt(buf[:want], int64(at/kernel.PageSize*8))
		if n == 0 && err != nil {
			return nil, fmt.Errorf("read %s: %w", p.pagemap.Name(), err)
		}
		for i := 0; i+8 <= n; i += 8 {
			e := binary.LittleEndian.Uint64(buf[i:])
			own := e&(pagemapPresent|pagemapSwapped) != 0 && e&pagemapFile == 0
			if own && !(e&pagemapPresent != 0 && e&pagemapFrame == p.zero) {
				runs = appendRun(runs, at, at+kernel.PageSize)
			}
			at += kernel.PageSize
		}
	}
	return runs, nil
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
