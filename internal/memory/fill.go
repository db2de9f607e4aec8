package memory

import (
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/parallel"
	"github.com/kup-project/kup/internal/tracee"
)

// fill copies stored pages into the seed, and compares them with the image's seal if the image has left that to us.
func (r *Rebuild) fill(p *image.Process, s *tracee.Seed, stored foam.Extents, moved Moved) error {
	if len(stored) == 0 {
		return nil
	}
	to, err := openVessel(p, s, stored)
	if err != nil {
		return err
	}
	defer to.close()
	take := func(at uint64, pages []byte) error {
		if err := to.put(at, pages); err != nil {
			return err
		}
		return moved(int64(len(pages)))
	}
	if p.Memory.FOAM.Physical {
		return takeFrames(p, s, stored, moved, take)
	}
	from := p.Memory.FOAM
	from.Extents = stored
	return r.Image.ReadPages(&from, take)
}

// takeFrames binds what is in page frames, and hands to take what cannot be bound.
func takeFrames(p *image.Process, s *tracee.Seed, stored foam.Extents, moved Moved, take func(at uint64, pages []byte) error) error {
	f, err := foam.Open("", p.Memory.FOAM)
	if err != nil {
		return err
	}
	defer f.Close()
	rest, err := bindFrames(p, s, f, stored, moved)
	if err != nil {
		return err
	}
	return parallel.Each(f.Runs(rest, chunk), func(e image.Extent) error {
		pages, err := f.Map(e)
		if err != nil {
			return err
		}
		return take(e.Start, pages)
	})
}

// vessel is the address space of a seed that is being filled. Its methods may be called by several goroutines at once.
type vessel struct {
	pid  int
	vmas []image.VMA // ascending
	mem  *os.File    // /proc/PID/mem

	// uffd watches the mappings for which it is worth while: to fill what is missing takes half the time of writing to it, since nothing is made zero first.
	// Nothing else may touch them meanwhile, it would wait for ever.
	uffd    int             // -1: none
	watched map[uint64]bool // by the start of a mapping
}

// worthWatching is how much a mapping must get for a userfaultfd to pay, bytes.
const worthWatching = 1 << 20

func openVessel(p *image.Process, s *tracee.Seed, stored foam.Extents) (*vessel, error) {
	t := &vessel{pid: s.PID(), vmas: p.Memory.VMAs, uffd: -1, watched: map[uint64]bool{}}
	var err error
	if t.mem, err = os.OpenFile(fmt.Sprintf("/proc/%d/mem", t.pid), os.O_RDWR, 0); err != nil {
		return nil, err
	}
	if p.THPDisable || !hugePagesAlways() {
		t.watch(s, stored)
	}
	return t, nil
}

// hugePagesAlways tells whether the kernel uses huge pages for whoever does not object. To write to them is faster than to fill small pages, and they are what the
// application would have.
var hugePagesAlways = sync.OnceValue(func() bool {
	policy, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled")
	return err == nil && strings.Contains(string(policy), "[always]")
})

// watch registers mappings with a userfaultfd. Where there is none, or not for us, they are written to.
func (t *vessel) watch(s *tracee.Seed, stored foam.Extents) {
	var worth []*image.VMA
	for i := range t.vmas {
		v := &t.vmas[i]
		if v.Kind == image.VMAAnon && !v.Shared && stored.Within(image.Extent{Start: v.Start, End: v.End}).Total() >= worthWatching {
			worth = append(worth, v)
		}
	}
	if len(worth) == 0 {
		return
	}
	fd, err := openUffd(s)
	if err != nil {
		return
	}
	t.uffd = fd
	if kernel.UffdEnable(fd, 0) != nil {
		return
	}
	for _, v := range worth {
		t.watched[v.Start] = kernel.UffdRegister(fd, v.Start, v.End, kernel.UffdRegisterModeMissing) == nil
	}
}

// close ends the watch.
func (t *vessel) close() {
	if t.uffd >= 0 {
		kernel.Close(t.uffd)
	}
	t.mem.Close()
}

// put copies stored pages to where they were, as far as mappings there have pages of their own.
func (t *vessel) put(at uint64, pages []byte) error {
	end := at + uint64(len(pages))
	first := sort.Search(len(t.vmas), func(i int) bool { return t.vmas[i].End > at })
	for i := first; i < len(t.vmas) && t.vmas[i].Start < end; i++ {
		v := &t.vmas[i]
		if !hasOwnPages(v) {
			continue
		}
		start := max(at, v.Start)
		if err := t.putInto(v, start, pages[start-at:min(end, v.End)-at]); err != nil {
			return fmt.Errorf("pid %d: write pages %x-%x: %w", t.pid, start, min(end, v.End), err)
		}
	}
	return nil
}

// putInto copies pages into one mapping. What the process itself may not write is written through /proc/PID/mem.
func (t *vessel) putInto(v *image.VMA, at uint64, pages []byte) error {
	switch {
	case t.watched[v.Start]:
		return t.supply(at, pages)
	case v.Prot&kernel.ProtWrite != 0:
		return kernel.WriteMemory(t.pid, at, pages)
	}
	_, err := t.mem.WriteAt(pages, int64(at))
	return err
}

// supply fills missing pages of a watched mapping, whatever its protection.
func (t *vessel) supply(at uint64, pages []byte) error {
	for len(pages) > 0 {
		done, err := kernel.UffdCopy(t.uffd, at, pages)
		if done == 0 && err != nil && !errors.Is(err, kernel.EAGAIN) {
			return err
		}
		at, pages = at+done, pages[done:]
	}
	return nil
}
