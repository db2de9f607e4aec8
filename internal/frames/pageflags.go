package frames

import (
	"encoding/binary"
	"fmt"
	"os"

	"github.com/kup-project/kup/internal/kernel"
)

// Bits of /proc/kpageflags, include/uapi/linux/kernel-page-flags.h. That a page is reserved is said to us, too, though it is meant for kernel hackers only
// (include/linux/kernel-page-flags.h).
const (
	flagLRU          = 1 << 5
	flagSlab         = 1 << 7
	flagBuddy        = 1 << 10
	flagMapped       = 1 << 11
	flagAnonymous    = 1 << 12
	flagCompoundHead = 1 << 15
	flagCompoundTail = 1 << 16
	flagHugeTLB      = 1 << 17
	flagPoisoned     = 1 << 19
	flagAbsent       = 1 << 20
	flagHuge         = 1 << 22
	flagZero         = 1 << 24
	flagPageTable    = 1 << 26
	flagReserved     = 1 << 32
)

// pageFlags tells what the kernel uses page frames for.
type pageFlags struct{ file *os.File }

func openPageFlags() (*pageFlags, error) {
	f, err := kernel.OpenFile("/proc/kpageflags")
	if err != nil {
		return nil, err
	}
	return &pageFlags{f}, nil
}

func (p *pageFlags) Close() error { return p.file.Close() }

// each calls report for so many frames from first on, in ascending order.
func (p *pageFlags) each(first, count uint64, report func(frame, flags uint64)) error {
	buf := make([]byte, 8*min(count, 64<<10))
	for count > 0 {
		part := buf[:min(uint64(len(buf)), count*8)]
		// The file ends with the last page frame.
		n, err := p.file.ReadAt(part, int64(first*8))
		if n == 0 {
			return fmt.Errorf("%s at page frame %#x: %w", p.file.Name(), first, err)
		}
		for i := 0; i+8 <= n; i += 8 {
			report(first, binary.LittleEndian.Uint64(part[i:]))
			first++
			count--
		}
	}
	return nil
}

// kind tells what a page of Size bytes is.
func (p *pageFlags) kind(frame uint64) (k Kind, err error) {
	err = p.each(frame, 1, func(_, flags uint64) {
		switch {
		case flags&flagHugeTLB != 0:
			k = HugeTLB
		case flags&flagHuge != 0:
			k = Huge
		}
	})
	return k, err
}

// anonymous returns the parts of r that are memory of processes, and not one of the kernel's zero pages.
func (p *pageFlags) anonymous(r Run) (parts []Run, err error) {
	err = p.each(r.Frame, r.Count, func(frame, flags uint64) {
		if flags&flagAnonymous == 0 || flags&flagZero != 0 {
			return
		}
		page := Run{Addr: r.Addr + (frame-r.Frame)*kernel.PageSize, Frame: frame, Count: 1}
		if n := len(parts); n > 0 && parts[n-1].goesOn(page) {
			parts[n-1].Count++
			return
		}
		parts = append(parts, page)
	})
	return parts, err
}
