package memory

import (
	"encoding/binary"
	"fmt"
	"os"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
)

// readRuns reads pages of a process, one run into each part, and changes nothing of it.
//
// Process_vm_readv(2) is the fastest way, but not for what others have, too: it pins pages, and what is not a process's alone the kernel makes so first (mm/gup.c,
// gup_must_unshare). The process would grow by what is read of it, and where that is a huge page of the pool, which has no other, the others would lose theirs.
func readRuns(pid int, runs foam.Batch, parts [][]byte) error {
	own, others, err := bySharing(pid, runs, parts)
	if err != nil {
		return err
	}
	if err := readPinned(pid, own.runs, own.parts); err != nil {
		return err
	}
	return readPeeked(pid, others.runs, others.parts)
}

// readPinned reads pages that a process alone has.
func readPinned(pid int, runs foam.Batch, parts [][]byte) error {
	if kernel.ReadMemoryRanges(pid, ranges(runs), parts) == nil {
		return nil
	}
	for i, e := range runs {
		if err := readPages(pid, e.Start, parts[i]); err != nil {
			return err
		}
	}
	return nil
}

// readPeeked reads any pages, through /proc/PID/mem: several times as slow for those that readPinned is for, and not slower for others.
func readPeeked(pid int, runs foam.Batch, parts [][]byte) error {
	if len(runs) == 0 {
		return nil
	}
	mem, err := os.Open(procfs.Path(pid, "mem"))
	if err != nil {
		return err
	}
	defer mem.Close()
	for i, e := range runs {
		if _, err := mem.ReadAt(parts[i], int64(e.Start)); err != nil {
			return fmt.Errorf("pages %#x-%#x: %w", e.Start, e.End, err)
		}
	}
	return nil
}

// destined is runs of pages, and where each goes.
type destined struct {
	runs  foam.Batch
	parts [][]byte
}

// bySharing divides pages into those that a process alone has, and those that others have, too.
func bySharing(pid int, runs foam.Batch, parts [][]byte) (own, others destined, err error) {
	pagemap, err := os.Open(procfs.Path(pid, "pagemap"))
	if err != nil {
		return own, others, err
	}
	defer pagemap.Close()
	for i := 0; i < len(runs); {
		after := i + near(runs[i:])
		stretch := image.Extent{Start: runs[i].Start, End: runs[after-1].End}
		entries := make([]byte, (stretch.End-stretch.Start)/kernel.PageSize*8)
		if _, err := pagemap.ReadAt(entries, int64(stretch.Start/kernel.PageSize*8)); err != nil {
			return own, others, fmt.Errorf("read %s: %w", pagemap.Name(), err)
		}
		shared := func(page uint64) bool {
			entry := binary.LittleEndian.Uint64(entries[(page-stretch.Start)/kernel.PageSize*8:])
			return entry&procfs.PagemapPresent != 0 && entry&procfs.PagemapAlone == 0
		}
		for ; i < after; i++ {
			own.take(runs[i], parts[i], shared, &others)
		}
	}
	return own, others, nil
}

// near is how many of the first runs are looked at together: those that ascend without large gaps. What was found in a process that changes its mappings meanwhile may be in
// any order.
func near(runs foam.Batch) int {
	n := 1
	for n < len(runs) && runs[n].Start >= runs[n-1].End && runs[n].Start-runs[n-1].End <= cheapToLookAt {
		n++
	}
	return n
}

// take adds a run, without what is shared: that goes to others.
func (d *destined) take(run image.Extent, part []byte, shared func(page uint64) bool, others *destined) {
	for at := run.Start; at < run.End; {
		here, end := shared(at), at
		for end < run.End && shared(end) == here {
			end += kernel.PageSize
		}
		to := d
		if here {
			to = others
		}
		to.runs = append(to.runs, image.Extent{Start: at, End: end})
		to.parts = append(to.parts, part[at-run.Start:end-run.Start])
		at = end
	}
}
