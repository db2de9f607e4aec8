package frames

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/kexec"
	"github.com/kup-project/kup/internal/procfs"
)

// Size is the size of a frame, bytes: a huge page of x86-64.
const Size = 2 << 20

// ErrNoRoom says that the machine has not enough memory left to carry the wanted amount.
var ErrNoRoom = errors.New("not enough memory to carry the applications' in memory")

// Frame is a page frame of Size bytes.
type Frame struct {
	Addr uint64 // physical
	Mem  []byte // mapped here
}

// Pool is memory that the next kernel can be told to leave alone. Its methods may be called by several goroutines.
type Pool struct {
	mapped [][]byte
	blocks kexec.Ranges

	frames []Frame

	mu   sync.Mutex
	free []Frame // of these
}

// bootNeeds is what the next kernel must have besides, bytes, until the memory is given back.
const bootNeeds = 384 << 20

// Take takes frames for size bytes. It is ErrNoRoom if the applications that have them, and the next kernel, could not do without.
func Take(size uint64) (*Pool, error) {
	blockSize, err := BlockSize()
	if err != nil {
		return nil, err
	}
	ram, err := usableRAM(blockSize)
	if err != nil {
		return nil, err
	}
	wanted := int((size + Size - 1) / Size)
	if err := checkSpare(uint64(wanted)*Size, ErrNoRoom); err != nil {
		return nil, err
	}
	p := &Pool{}
	if err := p.collect(wanted, blockSize, ram); err != nil {
		p.Close()
		return nil, err
	}
	if left := ram.Size() - p.blocks.Size(); left < size+bootNeeds {
		p.Close()
		return nil, fmt.Errorf("%w: the next kernel would start with %d MB, and the applications need %d MB of it", ErrNoRoom, left>>20, size>>20)
	}
	return p, nil
}

// collect takes frames until enough of them lie where they are of use, and then some more if they are scattered: the more there are to choose from, the fewer
// blocks are needed. Those that are not chosen are held so long, lest they come again.
func (p *Pool) collect(wanted int, blockSize uint64, ram kexec.Ranges) error {
	const tries = 16
	perBlock := int(blockSize / Size)
	var all []Frame
	for range tries {
		missing := wanted - len(p.free)
		if checkSpare(blockSize, ErrNoRoom) == nil {
			missing = max(missing, perBlock)
		}
		mem, err := mapHuge(missing)
		if err != nil && len(p.free) < wanted {
			return err
		}
		if err != nil {
			break // it has to do
		}
		p.mapped = append(p.mapped, mem)
		found, err := find(mem)
		if err != nil {
			return err
		}
		all = append(all, found...)
		p.free, p.blocks = choose(all, wanted, blockSize, ram)
		dense := p.blocks.Size() <= uint64(wanted)*Size+blockSize
		if len(p.free) == wanted && (dense || checkSpare(blockSize, ErrNoRoom) != nil) {
			break
		}
	}
	if len(p.free) < wanted {
		return fmt.Errorf("%w: only %d of %d huge pages lie in whole memory blocks", ErrNoRoom, len(p.free), wanted)
	}
	p.frames = slices.Clone(p.free)
	return p.letGo(all)
}

// letGo gives back what was not chosen.
func (p *Pool) letGo(all []Frame) error {
	chosen := map[uint64]bool{}
	for _, f := range p.free {
		chosen[f.Addr] = true
	}
	var failed []error
	for _, f := range all {
		if !chosen[f.Addr] {
			failed = append(failed, kernel.Forget(f.Mem))
		}
	}
	return errors.Join(failed...)
}

// mapHuge maps huge pages that the kernel makes for us, over what its pool has, and takes back with our end.
func mapHuge(n int) (mem []byte, err error) {
	const limit = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages"
	before, err := readNumber(limit, 10)
	if err != nil {
		return nil, err
	}
	surplus, err := readNumber("/sys/kernel/mm/hugepages/hugepages-2048kB/surplus_hugepages", 10)
	if err != nil {
		return nil, err
	}
	if err := writeText(limit, fmt.Sprint(max(before, surplus)+uint64(n))); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, writeText(limit, fmt.Sprint(before))) }()
	mem, err = kernel.MapAnon(n*Size, kernel.ProtRead|kernel.ProtWrite, kernel.MapPrivate|kernel.MapHugeTLB|21<<kernel.MapHugeShift)
	if err != nil {
		return nil, fmt.Errorf("%w: %d huge pages: %w; memory is full or fragmented", ErrNoRoom, n, err)
	}
	if err := errors.Join(kernel.KeepFromForks(mem), kernel.PopulateWrite(mem)); err != nil {
		kernel.Unmap(mem)
		return nil, fmt.Errorf("%w: %d huge pages: %w", ErrNoRoom, n, err)
	}
	return mem, nil
}

// find returns the frames behind a mapping.
func find(mem []byte) ([]Frame, error) {
	pagemap, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return nil, err
	}
	defer pagemap.Close()
	var all []Frame
	for at := 0; at < len(mem); at += Size {
		f := Frame{Mem: mem[at : at+Size : at+Size]}
		if f.Addr, err = addressOf(pagemap, f.Mem); err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

// addressOf returns where memory of ours lies.
func addressOf(pagemap *os.File, mem []byte) (uint64, error) {
	frame, err := procfs.OwnFrame(pagemap, mem)
	return frame * kernel.PageSize, err
}

// choose picks so many frames that they lie in few blocks, of those that lie in ram as a whole.
func choose(all []Frame, wanted int, blockSize uint64, ram kexec.Ranges) ([]Frame, kexec.Ranges) {
	byBlock := map[uint64][]Frame{}
	var starts []uint64
	for _, f := range all {
		start := f.Addr &^ (blockSize - 1)
		if !ram.Contains(kexec.Range{Start: start, End: start + blockSize}) {
			continue
		}
		if byBlock[start] == nil {
			starts = append(starts, start)
		}
		byBlock[start] = append(byBlock[start], f)
	}
	slices.SortFunc(starts, func(a, b uint64) int { return len(byBlock[b]) - len(byBlock[a]) })
	var chosen []Frame
	var blocks []kexec.Range
	for _, start := range starts {
		if len(chosen) >= wanted {
			break
		}
		chosen = append(chosen, byBlock[start]...)
		blocks = append(blocks, kexec.Range{Start: start, End: start + blockSize})
	}
	slices.SortFunc(chosen, func(a, b Frame) int { return cmp.Compare(a.Addr, b.Addr) })
	return chosen[:min(len(chosen), wanted)], kexec.NewRanges(blocks...)
}

// Next takes a frame out of the pool, ErrNoRoom if it is empty.
func (p *Pool) Next() (Frame, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) == 0 {
		return Frame{}, fmt.Errorf("%w: they have grown meanwhile", ErrNoRoom)
	}
	f := p.free[0]
	p.free = p.free[1:]
	return f, nil
}

// Check makes sure that the frames are where they were: hardly anything moves huge pages in use (taking memory offline does, see Documentation/admin-guide/mm/
// memory-hotplug.rst), but what lies elsewhere would be lost.
func (p *Pool) Check() error {
	pagemap, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return err
	}
	defer pagemap.Close()
	for _, known := range p.frames {
		now, err := addressOf(pagemap, known.Mem)
		if err != nil {
			return err
		}
		if now != known.Addr {
			return fmt.Errorf("the kernel has moved the page frame %#x, which was to outlive it, to %#x; try again, and take no memory offline meanwhile", known.Addr, now)
		}
	}
	return nil
}

// Return puts frames back that Next has given.
func (p *Pool) Return(frames []Frame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, frames...)
}

// Blocks are the memory blocks that the next kernel must leave alone.
func (p *Pool) Blocks() kexec.Ranges { return p.blocks }

// Close gives the memory back to the running kernel.
func (p *Pool) Close() error {
	var failed []error
	for _, mem := range p.mapped {
		failed = append(failed, kernel.Unmap(mem))
	}
	return errors.Join(failed...)
}
