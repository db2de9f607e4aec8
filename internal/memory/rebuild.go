package memory

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/tracee"
)

// ErrFileChanged says that a file which a process had mapped is not the one it was at the checkpoint.
var ErrFileChanged = errors.New("a mapped file has changed since the checkpoint")

// Rebuild makes address spaces again, in seeds.
type Rebuild struct {
	State *image.State // of Image
	Image *image.Image

	Shared map[int]int // kup's descriptors, by SharedMem.ID; see CreateShared
	Lazy   *Lazy       // nil: all memory is filled before the processes run

	files   []*os.File // behind Shared
	made    []int      // System V segments
	special Special
	proxy   *vdsoProxy // nil if the image's [vdso] is the running kernel's
}

// Prepare compares what must not have changed: the files that are mapped, and the [vdso].
func (r *Rebuild) Prepare() error {
	host, err := HostVDSO()
	if err != nil {
		return err
	}
	if string(host.Hash) != string(r.State.Host.VDSO.Hash) {
		if r.proxy, err = newVDSOProxy(r.State.Host.VDSO.Code, host.Code); err != nil {
			return err
		}
	}
	checked := map[image.MapFile]bool{}
	for i := range r.State.Processes {
		p := &r.State.Processes[i]
		if p.State == image.Zombie {
			continue
		}
		files := []image.MapFile{p.Memory.Exe}
		for _, v := range p.Memory.VMAs {
			if v.Kind == image.VMAFile {
				files = append(files, v.File)
			}
		}
		for _, f := range files {
			if checked[f] {
				continue
			}
			checked[f] = true
			if err := unchanged(p, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// unchanged verifies that a file is still what a process had mapped. A shared writable mapping only needs it to be there and
// long enough: its owners may go on writing.
func unchanged(p *image.Process, f image.MapFile) error {
	info, err := os.Stat(f.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("pid %d (%s) had %s mapped, which does not exist: %w", p.PID, p.Comm, f.Path, ErrFileChanged)
	case err != nil:
		return fmt.Errorf("pid %d (%s) had %s mapped: %w", p.PID, p.Comm, f.Path, err)
	case f.Write && info.Size() >= f.Size:
		return nil
	case f.Write || info.Size() != f.Size || info.ModTime().UnixNano() != f.Mtime:
		return fmt.Errorf("pid %d (%s) had %s mapped with size %d and modification time %d ns, which now are %d and %d: %w; put the old file back",
			p.PID, p.Comm, f.Path, f.Size, f.Mtime, info.Size(), info.ModTime().UnixNano(), ErrFileChanged)
	}
	return nil
}

// AddressSpace makes the mappings of a process in its seed and fills them, but for what is left to Lazy. It is ErrDiffers if pages have hashes that they do not fit,
// unless some are left to Lazy.
func (r *Rebuild) AddressSpace(p *image.Process, s *tracee.Seed, moved Moved) error {
	if err := r.mapAll(p, s); err != nil {
		return err
	}
	if r.Lazy != nil {
		if atOnce, watched := r.Lazy.plan(p); len(watched) > 0 {
			return r.fillPart(p, s, atOnce, watched, moved)
		}
	}
	if err := r.fill(p, s, p.Memory.FOAM.Extents, moved); err != nil {
		return err
	}
	if err := r.adorn(p, s); err != nil {
		return err
	}
	return verify(&p.Memory.FOAM, processPages(s.PID()))
}

// fillPart fills what the process needs at once, and leaves what is watched to Lazy.
//
// There must be no huge pages until the rest is watched. Neighbouring mappings are one for the kernel before adorn gives them what tells them apart, so a
// huge page for the contents of one would reach into the next: pages that are there, as zeros, are never missed.
func (r *Rebuild) fillPart(p *image.Process, s *tracee.Seed, atOnce foam.Extents, watched []watchedMapping, moved Moved) error {
	if err := disableHugePages(s, true); err != nil {
		return err
	}
	if err := r.fill(p, s, atOnce, moved); err != nil {
		return err
	}
	if err := r.adorn(p, s); err != nil {
		return err
	}
	if err := r.Lazy.watch(p, s, r.Image.Path(p.Memory.FOAM.Name), watched); err != nil {
		return err
	}
	return disableHugePages(s, false)
}

// disableHugePages keeps the kernel from using transparent huge pages in a seed, of any size, or lets it again.
func disableHugePages(s *tracee.Seed, disabled bool) error {
	value := 0
	if disabled {
		value = 1
	}
	b := tracee.NewBatch(s)
	b.Must("switch huge pages", kernel.SysPrctl, kernel.PrSetTHPDisable, value, 0, 0, 0)
	return b.Run()
}

// mapAll makes the mappings with their final protection, in ascending order.
func (r *Rebuild) mapAll(p *image.Process, s *tracee.Seed) error {
	if err := allocateKeys(p, s); err != nil {
		return err
	}
	b := tracee.NewBatch(s)
	kup := b.Must("find kup", kernel.SysPidfdOpen, os.Getpid(), 0)
	if err := b.Run(); err != nil {
		return err
	}
	for i := range p.Memory.VMAs {
		if err := r.mapOne(b, p, &p.Memory.VMAs[i], int(kup.Value())); err != nil {
			return err
		}
		if b.Full() {
			if err := b.Run(); err != nil {
				return err
			}
		}
	}
	b.Call(kernel.SysClose, kup.Value())
	return b.Run()
}

func (r *Rebuild) mapOne(b *tracee.Batch, p *image.Process, v *image.VMA, kup int) error {
	size := v.End - v.Start
	what := fmt.Sprintf("map %x-%x %s", v.Start, v.End, v.Name)
	flags := uint64(kernel.MapFixedNoReplace | kernel.MapPrivate)
	if v.Shared {
		flags = kernel.MapFixedNoReplace | kernel.MapShared
	}
	if hasFlag(*v, "nr") {
		flags |= kernel.MapNoReserve
	}
	if hasFlag(*v, "gd") {
		flags |= kernel.MapGrowsDown
	}
	switch v.Kind {
	case image.VMAVDSO, image.VMAVVar, image.VMAVsyscall:
		return nil
	case image.VMAAnon:
		flags |= kernel.MapAnonymous
	case image.VMADroppable:
		flags = kernel.MapFixedNoReplace | kernel.MapAnonymous | droppableFlag()
	case image.VMAHugeTLB:
		flags |= kernel.MapAnonymous | hugeFlags(v.Page)
	case image.VMAFile, image.VMADevice:
		access := os.O_RDONLY
		path := v.File.Path
		if v.Kind == image.VMADevice {
			path = v.Name
		}
		if v.File.Write {
			access = os.O_RDWR
		}
		fd := b.Must("open "+path, kernel.SysOpenat, kernel.AtFDCwd, b.String(path), access)
		b.Must(what, kernel.SysMmap, v.Start, size, v.Prot, flags, fd, v.Offset)
		b.Call(kernel.SysClose, fd)
		return nil
	case image.VMAShared:
		m := r.memory(v.Object)
		if m.SysV != nil {
			return attach(b, v, m)
		}
		fd := b.Must("take shared memory", kernel.SysPidfdGetfd, kup, r.Shared[v.Object], 0)
		b.Must(what, kernel.SysMmap, v.Start, size, v.Prot, flags, fd, v.Offset)
		b.Call(kernel.SysClose, fd)
		return nil
	default:
		return fmt.Errorf("pid %d: mapping %x-%x is of kind %q, which this kup does not know", p.PID, v.Start, v.End, v.Kind)
	}
	b.Must(what, kernel.SysMmap, v.Start, size, v.Prot, flags, -1, 0)
	return nil
}

// attach maps a System V segment. A process that has unmapped parts of it gets the whole and unmaps them again.
func attach(b *tracee.Batch, v *image.VMA, m *image.SharedMem) error {
	if v.Offset != 0 || v.End-v.Start != (m.Size+kernel.PageSize-1)&^(kernel.PageSize-1) {
		return fmt.Errorf("mapping %x-%x is a part of System V segment %d, which cannot be attached in parts", v.Start, v.End, m.SysV.ID)
	}
	flags := 0
	if v.Prot&kernel.ProtWrite == 0 {
		flags |= kernel.ShmReadOnly
	}
	if v.Prot&kernel.ProtExec != 0 {
		flags |= kernel.ShmExec
	}
	b.Must(fmt.Sprintf("attach segment %d", m.SysV.ID), kernel.SysShmat, m.SysV.ID, v.Start, flags)
	return nil
}

func (r *Rebuild) memory(id int) *image.SharedMem {
	for i := range r.State.Memories {
		if r.State.Memories[i].ID == id {
			return &r.State.Memories[i]
		}
	}
	return nil
}

func hugeFlags(size uint64) uint64 {
	shift := uint64(0)
	for 1<<shift < size {
		shift++
	}
	return kernel.MapHugeTLB | shift<<kernel.MapHugeShift
}

// droppableFlag is how this kernel maps what MAP_DROPPABLE gave: before v6.11, as private memory that adorn keeps from forks
// and dumps.
var droppableFlag = sync.OnceValue(func() uint64 {
	mem, err := kernel.MapAnon(kernel.PageSize, kernel.ProtRead, kernel.MapDroppable)
	if err != nil {
		return kernel.MapPrivate
	}
	kernel.Unmap(mem)
	return kernel.MapDroppable
})

// allocateKeys takes the protection keys that mappings use, so that pkey_mprotect(2) accepts them.
func allocateKeys(p *image.Process, s *tracee.Seed) error {
	highest := 0
	for i := range p.Memory.VMAs {
		highest = max(highest, p.Memory.VMAs[i].PKey)
	}
	b := tracee.NewBatch(s)
	for key := 1; key <= highest; key++ {
		b.Must("allocate a protection key", kernel.SysPkeyAlloc, 0, 0)
	}
	return b.Run()
}
