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

// read returns the flags of so many frames from first on.
func (p *pageFlags) read(first, count uint64) ([]uint64, error) {
	buf := make([]byte, 8*count)
	if _, err := p.file.ReadAt(buf, int64(first*8)); err != nil {
		return nil, fmt.Errorf("%s at page frame %#x: %w", p.file.Name(), first, err)
	}
	flags := make([]uint64, count)
	for i := range flags {
		flags[i] = binary.LittleEndian.Uint64(buf[8*i:])
	}
	return flags, nil
}

// kind tells what kind of a page of Size bytes begins with a frame.
func (p *pageFlags) kind(frame uint64) (Kind, error) {
	flags, err := p.read(frame, 1)
	switch {
	case err != nil:
		return Small, err
	case flags[0]&flagZero != 0:
		return zeroes, nil
	case flags[0]&flagHugeTLB != 0:
		return HugeTLB, nil
	case flags[0]&flagHuge != 0:
		return Huge, nil
	}
	return Small, nil
}
