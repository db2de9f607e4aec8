package procfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/kup-project/kup/internal/kernel"
)

// Bits of an entry of /proc/PID/pagemap, Documentation/admin-guide/mm/pagemap.rst.
const (
	PagemapFrame   = 1<<55 - 1 // number of the page frame; of a page that is swapped out, where to
	PagemapDirty   = 1 << 55   // soft-dirty
	PagemapAlone   = 1 << 56   // no other page table has the frame
	PagemapFile    = 1 << 61
	PagemapSwapped = 1 << 62
	PagemapPresent = 1 << 63
)

var errHidden = errors.New("page frame numbers are hidden from kup (needs CAP_SYS_ADMIN)")

// OwnFrame returns the number of the page frame behind memory of ours, by /proc/self/pagemap.
func OwnFrame(pagemap *os.File, mem []byte) (uint64, error) {
	var word [8]byte
	if _, err := pagemap.ReadAt(word[:], int64(kernel.AddressOf(mem)/kernel.PageSize*8)); err != nil {
		return 0, fmt.Errorf("/proc/self/pagemap: %w", err)
	}
	entry := binary.LittleEndian.Uint64(word[:])
	if entry&PagemapPresent == 0 || entry&PagemapFrame == 0 {
		return 0, errHidden
	}
	return entry & PagemapFrame, nil
}

// ZeroFrame returns the number of the page frame that untouched memory is read from, learnt from such a page of our own. Huge pages have another.
func ZeroFrame() (uint64, error) {
	mem, err := kernel.MapAnon(kernel.PageSize, kernel.ProtRead, kernel.MapPrivate)
	if err != nil {
		return 0, err
	}
	defer kernel.Unmap(mem)
	pagemap, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return 0, err
	}
	defer pagemap.Close()
	if mem[0] != 0 {
		return 0, errors.New("untouched memory is not zero")
	}
	frame, err := OwnFrame(pagemap, mem)
	if err != nil {
		return 0, fmt.Errorf("%w, so that zero pages cannot be told", err)
	}
	return frame, nil
}
