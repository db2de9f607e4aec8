package memory

import "github.com/kup-project/kup/internal/kernel"

// places are where the own pages of a process lay when its soft-dirty bits were last cleared: the frame, or the place in swap, of each.
//
// A page whose bit is clear was not written since, but it may be another page than before: mremap(2) moves whole page tables as they are (mm/mremap.c,
// move_normal_pmd), and memory that was given up and is then read becomes a huge zero page with a clear bit (mm/huge_memory.c, set_huge_zero_page). Only
// a page that lies where it lay is the one that was there before: had its frame been given up and taken again meanwhile, that would have been by a write.
type places struct {
	runs []placeRun
	at   int // index of the run that has was last asked about; see rewind
}

// placeRun is a run of pages in consecutive frames.
type placeRun struct {
	start, end uint64 // addresses
	place      uint64 // of the first page, as pagemapPlace has it
}

// add notes where a page lies. Addresses ascend from call to call.
func (p *places) add(page, place uint64) {
	if n := len(p.runs); n > 0 {
		last := &p.runs[n-1]
		if last.end == page && last.place+(page-last.start)/kernel.PageSize == place {
			last.end += kernel.PageSize
			return
		}
	}
	p.runs = append(p.runs, placeRun{page, page + kernel.PageSize, place})
}

// has tells whether a page lay in a place. Addresses ascend from call to call; rewind begins anew.
func (p *places) has(page, place uint64) bool {
	for p.at < len(p.runs) && p.runs[p.at].end <= page {
		p.at++
	}
	if p.at == len(p.runs) || p.runs[p.at].start > page {
		return false
	}
	run := &p.runs[p.at]
	return run.place+(page-run.start)/kernel.PageSize == place
}

func (p *places) rewind() { p.at = 0 }
