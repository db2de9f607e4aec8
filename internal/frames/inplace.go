package frames

import (
	"context"
	"errors"
	"fmt"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/kexec"
)

// ErrMoved says that the kernel has moved page frames that were to stay where they are.
var ErrMoved = errors.New("page frames have moved since they were listed")

// Next says what the next kernel does with memory that has stayed where it was.
type Next string

const (
	Binds  Next = "binds"  // it reserves the memory, and kup's module gives it to processes, frame by frame
	Copies Next = "copies" // it leaves whole memory blocks alone, and gets them back one by one when they were read
)

// InPlace lets applications' memory stay where it is while the kernel changes: the next one starts in a slice of memory that was emptied, and leaves the rest alone.
type InPlace struct {
	Pool *Pool // what cannot stay is copied into

	quiet   *Quiet
	slice   *Slice
	kept    kexec.Ranges
	claimed pageSet

	staying []staying
}

// staying is what of a process stays where it is.
type staying struct {
	*Inventory
	runs []Run
}

// TakeInPlace makes room for the next kernel, and takes a pool for what cannot stay where it is: memory that the next kernel starts in, and shared memory. The
// processes are those whose memory is to stay; they run. What it changes is noted in a directory, see Recover.
func TakeInPlace(ctx context.Context, dir string, pids []int, next Next) (*InPlace, error) {
	p := &InPlace{}
	if err := p.take(ctx, dir, pids, next); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *InPlace) take(ctx context.Context, dir string, pids []int, next Next) (err error) {
	if p.quiet, err = BeQuiet(dir); err != nil {
		return err
	}
	first, err := nextNeeds(pids)
	if err != nil {
		return err
	}
	if p.slice, err = TakeSlice(ctx, dir, first, Patience); err != nil {
		return err
	}
	size, err := BlockSize()
	if err != nil {
		return err
	}
	ram, err := usableRAM(size)
	if err != nil {
		return err
	}
	p.kept = kept(ram, p.slice.Blocks(), size, next)
	movable, err := p.movable(pids)
	if err != nil {
		return err
	}
	p.Pool, err = Take(movable + movable/4 + 32<<20)
	return err
}

// kept is the part of ram that the next kernel is to leave alone, when it starts in a slice.
func kept(ram, slice kexec.Ranges, blockSize uint64, next Next) (all kexec.Ranges) {
	if next == Copies {
		all = wholeBlocks(ram, blockSize)
	} else {
		all = butLast(ram)
	}
	for _, b := range slice {
		all = all.Minus(b)
	}
	return all
}

// butLast is memory without the last page frames of each range: the next kernel takes the end of what it need not reserve for the end of memory (arch/x86/kernel/e820.c,
// e820__end_of_ram_pfn), and knows no page beyond.
func butLast(ram kexec.Ranges) (all kexec.Ranges) {
	for _, r := range ram {
		if r.Size() > Size {
			all = append(all, kexec.Range{Start: r.Start, End: r.End - Size})
		}
	}
	return all
}

// Kept is the memory that the next kernel must reserve, or leave alone.
func (p *InPlace) Kept() kexec.Ranges { return p.kept }

// mostUnits is in how many units memory is given back at most: a kernel with a few hundred entries more in its memory map takes longer to start.
const mostUnits = 200

// Unit is the size, bytes, of what the next kernel is to get back at once: a memory block, or several if that would make too many.
func (p *InPlace) Unit() (uint64, error) {
	size, err := BlockSize()
	return unitOf(p.kept, size), err
}

func unitOf(kept kexec.Ranges, blockSize uint64) uint64 {
	size := blockSize
	for {
		n := 0
		for _, r := range kept {
			n += len(r.Split(size))
		}
		if n <= mostUnits || size >= kept.Size() {
			return size
		}
		size *= 2
	}
}

// Claim lists page frames of mappings of a frozen process that can stay where they are: not what the next kernel starts in, nor what was claimed before, because several
// processes have it.
func (p *InPlace) Claim(pid int, mappings []image.Extent) (runs []Run, err error) {
	v, err := Scan([]Process{{pid, mappings}})
	if err != nil {
		return nil, err
	}
	stays := v.Within(p.kept)
	found := stays.Processes[0].Runs
	for _, s := range stays.Shared {
		found = append(found, Run{Addr: s.Places[0].Addr, Frame: s.Frame, Count: s.Count, Kind: s.Kind})
	}
	for _, r := range found {
		if r.Kind != HugeTLB {
			runs = p.claimed.claim(runs, r)
		}
	}
	runs = joined(runs)
	p.staying = append(p.staying, staying{v, runs})
	return runs, nil
}

// Forget takes all claims back: the processes have run since.
func (p *InPlace) Forget() { p.claimed, p.staying = nil, nil }

// Check is ErrMoved if a frame that was claimed is not where it was, or one of the pool, or if memory moves whenever it looks.
func (p *InPlace) Check() error { return undisturbed(readMotion, p.look) }

func (p *InPlace) look() error {
	if err := p.Pool.Check(); err != nil {
		return err
	}
	for _, s := range p.staying {
		if err := s.check(); err != nil {
			return err
		}
	}
	return nil
}

// check is ErrMoved if something that is to stay has moved. What does not stay was copied.
func (s staying) check() error {
	moved, err := s.Moved()
	if err != nil {
		return err
	}
	pages := moved[0]
	for _, r := range s.runs {
		stays := r.Extent()
		for len(pages) > 0 && pages[0].End <= stays.Start {
			pages = pages[1:]
		}
		if len(pages) > 0 && pages[0].Start < stays.End {
			return fmt.Errorf("%w: of pid %d, behind address %#x; try again", ErrMoved, s.asked[0].PID, max(pages[0].Start, stays.Start))
		}
	}
	return nil
}

// Close gives everything back to the running kernel.
func (p *InPlace) Close() error {
	var failed []error
	if p.Pool != nil {
		failed = append(failed, p.Pool.Close())
	}
	if p.slice != nil {
		failed = append(failed, p.slice.Close())
	}
	if p.quiet != nil {
		failed = append(failed, p.quiet.Close())
	}
	return errors.Join(failed...)
}

// pageSet is a set of page frames: a bit for each, by number.
type pageSet []uint64

// claim adds those frames of a run to the set that are not in it yet, and to a list of runs.
func (s *pageSet) claim(list []Run, r Run) []Run {
	if missing := int((r.Frame+r.Count+63)/64) - len(*s); missing > 0 {
		*s = append(*s, make(pageSet, missing)...)
	}
	for n := uint64(0); n < r.Count; {
		first := n
		for n < r.Count && s.add(r.Frame+n) {
			n++
		}
		if n > first {
			list = appendRun(list, r.slice(first, n-first, Small))
		} else {
			n++
		}
	}
	return list
}

// add adds a frame, for which there must be room. False: it was there.
func (s *pageSet) add(frame uint64) bool {
	word, bit := &(*s)[frame/64], uint64(1)<<(frame%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

// At is the part of a run that is an extent of it.
func (r Run) At(e image.Extent) Run {
	return r.slice((e.Start-r.Addr)/kernel.PageSize, (e.End-e.Start)/kernel.PageSize, Small)
}

// Extent is the pages of a run.
func (r Run) Extent() image.Extent {
	return image.Extent{Start: r.Addr, End: r.Addr + r.Count*kernel.PageSize}
}
