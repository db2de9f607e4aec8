package kexec

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"math"
)

// layOut turns a vmlinux ELF into memory: its PT_LOAD segments at their distance from the lowest one. The kernel finds out by itself how far it
// is from the address that it was linked for, if that is a multiple of alignment (arch/x86/kernel/head64.c, __startup_64), so that no
// relocation is needed. initSize is how much memory it owns.
func layOut(file []byte, initSize, alignment uint64) (*program, error) {
	f, err := elf.NewFile(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	if f.Class != elf.ELFCLASS64 || f.Machine != elf.EM_X86_64 {
		return nil, fmt.Errorf("it is for %v, %v", f.Machine, f.Class)
	}
	extent := Range{math.MaxUint64, 0}
	var end uint64 // of what is in the file
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || p.Memsz == 0 {
			continue
		}
		if p.Filesz > p.Memsz || p.Paddr > math.MaxUint64-p.Memsz {
			return nil, fmt.Errorf("segment of %#x bytes with %#x bytes in the file at %#x", p.Memsz, p.Filesz, p.Paddr)
		}
		extent.Start = min(extent.Start, p.Paddr)
		extent.End = max(extent.End, p.Paddr+p.Memsz)
		end = max(end, p.Paddr+p.Filesz)
	}
	switch {
	case extent.Size() == 0:
		return nil, errors.New("it has nothing to load")
	case extent.Size() > initSize:
		return nil, fmt.Errorf("it needs %#x bytes, but its setup header says %#x", extent.Size(), initSize)
	case extent.Start%alignment != 0:
		return nil, fmt.Errorf("it is linked for %#x, which is no multiple of %#x", extent.Start, alignment)
	case f.Entry < extent.Start || f.Entry >= end:
		return nil, fmt.Errorf("its entry point %#x is outside of %v", f.Entry, extent)
	}
	data := make([]byte, end-extent.Start)
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || p.Filesz == 0 {
			continue
		}
		at := data[p.Paddr-extent.Start:][:p.Filesz]
		if _, err := p.ReadAt(at, 0); err != nil {
			return nil, fmt.Errorf("segment at %#x: %w", p.Paddr, err)
		}
	}
	return &program{
		route: RouteVmlinux,
		data:  data,
		size:  alignUp(initSize, pageSize),
		entry: f.Entry - extent.Start,
	}, nil
}
