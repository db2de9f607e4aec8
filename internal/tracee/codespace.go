package tracee

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
)

// marker stands at the beginning of the vdso's tail where kup has written to it, before the blob and the records.
var marker = [8]byte{'K', 'U', 'P', ' ', 'b', 'l', 'o', 'b'}

// codeSpace is the zero tail of a process's [vdso]: memory that it can execute and read but never does, and that /proc/PID/mem can
// write. The page that is written to becomes private to the process and stays so.
//
//	start                tail
//	| vdso image ....... | marker | blob | record 0 | record 1 | ... |
//
// A record belongs to one open Injection.
type codeSpace struct {
	start, end uint64 // of the [vdso] mapping
	tail       uint64 // 0: not looked at yet
	code       []byte // marker and blob, maybe without the questions
	records    []*Injection
	hole       procfs.Mapping // the largest, where areas are mapped
}

// find notes where the vdso is mapped.
func (c *codeSpace) find(maps []procfs.Mapping) {
	for i := range maps {
		if maps[i].Path == "[vdso]" {
			c.start, c.end = maps[i].Start, maps[i].End
		}
	}
}

func (c *codeSpace) contains(addr uint64) bool { return addr >= c.start && addr < c.end }

func (c *codeSpace) blob() uint64 { return c.tail + uint64(len(marker)) }

func (c *codeSpace) record(i int) uint64 {
	const align = 8
	return (c.tail+uint64(len(c.code))+align-1)&^(align-1) + uint64(i*recSize)
}

// fit chooses the code that leaves room for a record, and returns for how many.
func (c *codeSpace) fit() (records int) {
	all := append(marker[:], blob[:]...)
	for _, code := range [][]byte{all, all[:len(marker)+blobQuestions]} {
		c.code = code
		for c.record(records+1) <= c.end {
			records++
		}
		if records > 0 {
			break
		}
	}
	return records
}

// asks reports whether the code has the questions.
func (c *codeSpace) asks() bool { return len(c.code) == len(marker)+len(blob) }

// prepare finds the tail, and writes the blob if it is not there already.
func (p *Process) prepare() error {
	c := &p.vdso
	if c.tail != 0 {
		return nil
	}
	if c.start == 0 {
		return refuse.Errorf("%v has no [vdso] mapping, which kup executes system calls from; start it with one (kernel parameter vdso=1)", p)
	}
	var err error
	if p.mem == nil {
		if p.mem, err = os.OpenFile(procfs.Path(p.member().TID, "mem"), os.O_RDWR, 0); err != nil {
			return fmt.Errorf("%v: %w", p, err)
		}
	}
	image := make([]byte, c.end-c.start)
	if _, err := p.mem.ReadAt(image, int64(c.start)); err != nil {
		return fmt.Errorf("%v: read the [vdso] at %#x: %w", p, c.start, err)
	}
	at := bytes.Index(image, marker[:])
	if at < 0 {
		const align = 8
		at = (len(bytes.TrimRight(image, "\x00")) + 2*align - 1) &^ (align - 1)
	}
	tail := c.start + uint64(at)
	fits := codeSpace{tail: tail, end: c.end}
	count := fits.fit()
	if tail >= c.end || count == 0 {
		return refuse.Errorf("%v: the [vdso] of this kernel has no room for the %d bytes that kup executes in a process; use another kernel", p, len(fits.code)+recSize)
	}
	if !bytes.HasPrefix(image[at:], fits.code) {
		if _, err := p.mem.WriteAt(fits.code, int64(tail)); err != nil {
			return fmt.Errorf("%v: write to the [vdso] at %#x: %w", p, tail, err)
		}
	}
	c.tail, c.code, c.records, c.hole = tail, fits.code, make([]*Injection, count), p.largestHole()
	return nil
}

// errFull says that a process has all injections open that there is room for.
var errFull = errors.New("too many injections are open in one process")

// take reserves a record.
func (c *codeSpace) take(i *Injection) (slot int, err error) {
	for slot, user := range c.records {
		if user == nil {
			c.records[slot] = i
			return slot, nil
		}
	}
	return 0, errFull
}

// room is how many records are free.
func (c *codeSpace) room() (n int) {
	for _, user := range c.records {
		if user == nil {
			n++
		}
	}
	return n
}

// largestHole finds the largest range of free addresses.
func (p *Process) largestHole() (best procfs.Mapping) {
	const (
		lowest  = 1 << 20
		highest = 0x7ffffffff000 // TASK_SIZE with four-level page tables
	)
	end := uint64(lowest)
	for i := range p.Maps {
		m := &p.Maps[i]
		if start := min(m.Start, highest); start > end && start-end > best.Size() {
			best.Start, best.End = end, start
		}
		end = max(end, m.End)
	}
	if highest > end && highest-end > best.Size() {
		best.Start, best.End = end, highest
	}
	return best
}

// areaAddr is where the area of the injection with the given slot goes: the middle of the largest hole, far from everything that
// grows, like the heap and stacks, and adjacent to nothing, so that the kernel does not merge it with a neighbour.
func (p *Process) areaAddr(slot int, size uint64) (uint64, error) {
	const stride = 2 * maxArea
	hole := &p.vdso.hole
	if size > maxArea || hole.Size() < uint64(4*stride*len(p.vdso.records)) {
		return 0, fmt.Errorf("%v: no free addresses for an area of %d bytes: %w", p, size, kernel.ENOMEM)
	}
	return (hole.Start+hole.Size()/2)&^(pageSize-1) + uint64(slot*stride), nil
}
