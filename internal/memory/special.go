package memory

import (
	"fmt"
	"strings"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/tracee"
)

// Special is where the kernel's own mappings, [vvar] and [vdso], stand in seeds.
type Special struct {
	parts []image.VMA // ascending, without gaps
	vdso  uint64
	code  []byte
}

// AreaSize is how much of a hole the area of a seed takes; the kernel's mappings are put behind it.
const AreaSize = 1 << 20

// specialRoom is at least what [vvar] and [vdso] take.
const specialRoom = 128 << 10

// Hole finds addresses that no process of the image uses, for the area and the kernel's mappings.
func Hole(st *image.State, seedMaps ...image.Extent) (tracee.Hole, error) {
	const size = AreaSize + specialRoom + 2*guard
	at := uint64(lowestHole)
	for moved := true; moved; {
		moved = false
		for _, p := range st.Processes {
			for _, v := range p.Memory.VMAs {
				if v.Start < at+size && v.End > at && v.Kind != image.VMAVsyscall {
					at, moved = (v.End+guard)&^(guard-1), true
				}
			}
		}
		if at+size > highestHole {
			return tracee.Hole{}, fmt.Errorf("no %d bytes of addresses are free in all processes", size)
		}
	}
	return tracee.Hole{Addr: at + guard, Size: AreaSize}, nil
}

const (
	guard       = 1 << 20          // distance to the neighbours: stacks grow, and neighbours would be merged
	lowestHole  = 0x10_0000_0000   // above the heaps of programs at fixed addresses
	highestHole = 0x7000_0000_0000 // below the mappings and the stack of the seed itself
)

// Strip takes everything out of a new seed's address space but its area and the kernel's mappings, which it moves next to the
// area. Seeds cloned from it inherit that.
func (r *Rebuild) Strip(s *tracee.Seed, hole tracee.Hole) error {
	maps, err := procfs.ReadMaps(s.PID())
	if err != nil {
		return err
	}
	b := tracee.NewBatch(s)
	to := hole.Addr + uint64(hole.Size)
	r.special = Special{}
	for _, m := range maps {
		switch {
		case m.Start >= hole.Addr && m.End <= to || m.Path == "[vsyscall]":
		case m.Path == "[vdso]" || strings.HasPrefix(m.Path, "[vvar"):
			r.special.parts = append(r.special.parts, image.VMA{Start: m.Start, End: m.End, Name: m.Path})
		default:
			b.Must("empty the seed", kernel.SysMunmap, m.Start, m.Size())
		}
	}
	if len(r.special.parts) == 0 {
		return fmt.Errorf("seed %d has no [vdso]", s.PID())
	}
	base := r.special.parts[0].Start
	for i := range r.special.parts {
		v := &r.special.parts[i]
		size := v.End - v.Start
		v.Start = to + guard/2 + (v.Start - base)
		b.Must("move "+v.Name+" aside", kernel.SysMremap, v.End-size, size, size, kernel.MremapMayMove|kernel.MremapFixed, v.Start)
		v.End = v.Start + size
		if v.Name == "[vdso]" {
			r.special.vdso = v.Start
		}
	}
	if err := b.Run(); err != nil {
		return err
	}
	host, err := HostVDSO()
	r.special.code = host.Code
	return err
}

// placeSpecial puts the kernel's mappings where the process had them or, if its [vdso] was another kernel's, puts that one's
// code there with jumps into the kernel's, which stays aside.
func (r *Rebuild) placeSpecial(p *image.Process, s *tracee.Seed) error {
	var vdso *image.VMA
	var vvars []image.VMA
	for i, v := range p.Memory.VMAs {
		switch v.Kind {
		case image.VMAVDSO:
			vdso = &p.Memory.VMAs[i]
		case image.VMAVVar:
			vvars = append(vvars, v)
		}
	}
	if vdso == nil {
		return fmt.Errorf("pid %d had no [vdso]", p.PID)
	}
	b := tracee.NewBatch(s)
	if r.proxy == nil {
		shift := vdso.Start - r.special.vdso
		for _, v := range r.special.parts {
			b.Must("move "+v.Name+" into place", kernel.SysMremap, v.Start, v.End-v.Start, v.End-v.Start,
				kernel.MremapMayMove|kernel.MremapFixed, v.Start+shift)
		}
		return b.Run()
	}
	const flags = kernel.MapPrivate | kernel.MapAnonymous | kernel.MapFixedNoReplace
	for _, v := range vvars {
		b.Must("replace the old "+v.Name, kernel.SysMmap, v.Start, v.End-v.Start, kernel.ProtRead, flags, -1, 0)
	}
	b.Must("replace the old [vdso]", kernel.SysMmap, vdso.Start, vdso.End-vdso.Start, kernel.ProtRead|kernel.ProtExec, flags, -1, 0)
	if err := b.Run(); err != nil {
		return err
	}
	code, err := r.proxy.patched(vdso.Start, r.special.vdso, p.Threads)
	if err != nil {
		return fmt.Errorf("pid %d: %w", p.PID, err)
	}
	return kernel.PokeMemory(s.PID(), vdso.Start, code[:vdso.End-vdso.Start])
}

// SyscallAt returns the address of a system call instruction in the process's [vdso], outside of the area.
func (r *Rebuild) SyscallAt(p *image.Process) (uint64, error) {
	at, ok := syscallInstruction(r.special.code)
	if !ok {
		return 0, fmt.Errorf("the [vdso] of this kernel has no system call instruction")
	}
	if r.proxy != nil {
		return r.special.vdso + uint64(at), nil
	}
	for _, v := range p.Memory.VMAs {
		if v.Kind == image.VMAVDSO {
			return v.Start + uint64(at), nil
		}
	}
	return 0, fmt.Errorf("pid %d had no [vdso]", p.PID)
}
