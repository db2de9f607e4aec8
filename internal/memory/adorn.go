package memory

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/tracee"
)

// advice is what madvise(2) has left in VmFlags.
var advice = []struct {
	flag   string
	advice int
}{
	{"dc", kernel.MadvDontFork}, {"dd", kernel.MadvDontDump}, {"wf", kernel.MadvWipeOnFork}, {"hg", kernel.MadvHugePage},
	{"nh", kernel.MadvNoHugePage}, {"mg", kernel.MadvMergeable}, {"sr", kernel.MadvSequential}, {"rr", kernel.MadvRandom},
}

// adorn gives the filled mappings what is more than protection: advice, locks, guards, names, keys; and the process its layout.
func (r *Rebuild) adorn(p *image.Process, s *tracee.Seed) error {
	b := tracee.NewBatch(s)
	for i := range p.Memory.VMAs {
		v := &p.Memory.VMAs[i]
		switch v.Kind {
		case image.VMAVDSO, image.VMAVVar, image.VMAVsyscall:
			continue
		}
		adornOne(b, v)
		if b.Full() {
			if err := b.Run(); err != nil {
				return err
			}
		}
	}
	if p.Memory.LockFuture {
		b.Must("lock future mappings", kernel.SysMlockall, kernel.MclFuture)
	}
	if err := b.Run(); err != nil {
		return err
	}
	if err := r.placeSpecial(p, s); err != nil {
		return err
	}
	return setLayout(p, s)
}

func adornOne(b *tracee.Batch, v *image.VMA) {
	size := v.End - v.Start
	at := fmt.Sprintf(" mapping %x-%x", v.Start, v.End)
	for _, a := range advice {
		if hasFlag(*v, a.flag) && (v.Kind != image.VMAHugeTLB || a.flag != "hg" && a.flag != "nh") {
			b.Must("advise"+at, kernel.SysMadvise, v.Start, size, a.advice)
		}
	}
	if v.Kind == image.VMADroppable && droppableFlag() == kernel.MapPrivate {
		b.Must("advise"+at, kernel.SysMadvise, v.Start, size, kernel.MadvWipeOnFork)
		b.Must("advise"+at, kernel.SysMadvise, v.Start, size, kernel.MadvDontDump)
	}
	for _, g := range v.Guards {
		b.Must("guard pages of"+at, kernel.SysMadvise, g.Start, g.End-g.Start, kernel.MadvGuardInstall)
	}
	if name, ok := strings.CutPrefix(v.Name, "[anon:"); ok {
		// Only a label for people, which kernels without CONFIG_ANON_VMA_NAME do not take.
		b.Call(kernel.SysPrctl, kernel.PrSetVMA, kernel.PrSetVMAAnonName, v.Start, size, b.String(strings.TrimSuffix(name, "]")))
	}
	if v.PKey != 0 {
		b.Must("protect"+at, kernel.SysPkeyMprotect, v.Start, size, v.Prot, v.PKey)
	}
	if hasFlag(*v, "lo") {
		flags := 0
		if v.OnFault {
			flags = kernel.MlockOnFault
		}
		b.Must("lock"+at, kernel.SysMlock2, v.Start, size, flags)
	}
}

// setLayout tells the kernel where the program's parts are, by struct prctl_mm_map of include/uapi/linux/prctl.h.
func setLayout(p *image.Process, s *tracee.Seed) error {
	b := tracee.NewBatch(s)
	exe := b.Must("open "+p.Memory.Exe.Path, kernel.SysOpenat, kernel.AtFDCwd, b.String(p.Memory.Exe.Path), os.O_RDONLY)
	if err := b.Run(); err != nil {
		return err
	}
	m := &p.Memory
	layout := b.Words(m.StartCode, m.EndCode, m.StartData, m.EndData, m.StartBrk, m.Brk, m.StartStack,
		m.ArgStart, m.ArgEnd, m.EnvStart, m.EnvEnd, 0, 0)
	layout.Point(11*8, b.Bytes(m.Auxv))
	binary.LittleEndian.PutUint32(layout.Data[12*8:], uint32(len(m.Auxv)))
	binary.LittleEndian.PutUint32(layout.Data[12*8+4:], uint32(exe.Value()))
	b.Must("set the layout of the address space", kernel.SysPrctl, kernel.PrSetMM, kernel.PrSetMMMap, layout, len(layout.Data), 0)
	b.Call(kernel.SysClose, exe.Value())
	return b.Run()
}
