package kexec

import (
	"fmt"
	"math"

	"github.com/kup-project/kup/internal/kernel"
)

const (
	// lowMemoryEnd: the first megabyte belongs to firmware, and kernels start their other CPUs from there.
	lowMemoryEnd = 1 << 20

	// end32 is where addresses stop to fit into 32 bits.
	end32 = 1 << 32
)

// Segment is a piece of the next kernel and where it goes.
type Segment struct {
	Name string // kernel, initrd, or boot (trampoline, boot_params, command line, setup_data)
	Range

	data []byte
}

// cargo is all that has to be in memory when the next kernel starts.
type cargo struct {
	header    *setupHeader
	program   *program
	initrd    []byte
	cmdLine   string
	seed      []byte // randomness for the next kernel
	memory    MemoryMap
	reserve   Ranges // of it, what the next kernel is to reserve
	inherited *inherited
}

// place finds memory for c and writes what depends on addresses. entry is where the trampoline lies.
func place(c *cargo) (segments []Segment, entry uint64, err error) {
	free := c.memory.RAM().Minus(Range{0, lowMemoryEnd})
	for _, r := range c.reserve {
		free = free.Minus(r)
	}
	if c.inherited.efi != nil {
		for _, r := range c.inherited.efi.reserved() {
			free = free.Minus(r)
		}
	}
	if c.header.xLoadFlags&xlfLoadAbove4G == 0 {
		free = free.Within(Range{0, end32})
	}

	at, ok := placeProgram(free, c)
	if !ok {
		return nil, 0, fmt.Errorf("%w: no %d MiB of contiguous RAM above %#x for it", ErrNoMemory, c.program.size>>20, c.header.prefAddress)
	}
	free = free.Minus(at)
	segments = append(segments, Segment{"kernel", at, c.program.data})

	params := bootParams{inherited: c.inherited, header: c.header, memory: c.memory}
	if len(c.initrd) > 0 {
		at, ok := placeInitrd(free, c)
		if !ok {
			return nil, 0, fmt.Errorf("%w: no %d MiB of contiguous RAM for the initrd", ErrNoMemory, len(c.initrd)>>20)
		}
		free = free.Minus(at)
		segments = append(segments, Segment{"initrd", at, c.initrd})
		params.initrd = Range{at.Start, at.Start + uint64(len(c.initrd))}
	}

	boot, err := placeBoot(free, c, params, segments[0].Start+c.program.entry)
	if err != nil {
		return nil, 0, err
	}
	return append(segments, boot), boot.Start, nil
}

// placeProgram puts the kernel where it was linked to run, else as low above as possible. Not below: the decompressor would move it up.
func placeProgram(free Ranges, c *cargo) (Range, bool) {
	usable := free.Within(Range{c.header.prefAddress, math.MaxUint64})
	return usable.FindSpace(c.program.size, c.header.alignment)
}

// placeInitrd puts the initrd as high as the kernel wants it at most, and above 4 GB only when there is no room below.
func placeInitrd(free Ranges, c *cargo) (Range, bool) {
	size := alignUp(uint64(len(c.initrd)), pageSize)
	if at, ok := free.Within(Range{0, c.header.initrdAddrMax + 1}).FindSpaceHigh(size, pageSize); ok {
		return at, true
	}
	// Only kernels with XLF_CAN_BE_LOADED_ABOVE_4G have free memory up there.
	return free.Within(Range{end32, math.MaxUint64}).FindSpace(size, pageSize)
}

// placeBoot writes the segment that belongs to nobody else: the trampoline's page, boot_params, setup_data, EFI memory map, command line.
func placeBoot(free Ranges, c *cargo, params bootParams, entry uint64) (Segment, error) {
	items := extraData(c.memory, c.reserve, c.inherited.efi, c.seed)
	list, _ := encodeSetupData(items, 0)
	var efiMap []byte
	if c.inherited.efi != nil {
		efiMap = c.inherited.efi.memoryMap()
	}
	const listOffset = trampolineSize + bootParamsSize
	efiMapOffset := uint64(listOffset + len(list))
	cmdLineOffset := efiMapOffset + uint64(len(efiMap))
	size := alignUp(cmdLineOffset+uint64(len(c.cmdLine))+1, pageSize)
	at, ok := free.FindSpace(size, pageSize)
	if !ok {
		return Segment{}, fmt.Errorf("%w: no %d bytes of contiguous RAM for the boot parameters", ErrNoMemory, size)
	}

	list, params.setupData = encodeSetupData(items, at.Start+listOffset)
	params.efiMap = at.Start + efiMapOffset
	params.cmdLine = at.Start + cmdLineOffset
	data := trampoline(at.Start, entry, at.Start+trampolineSize)
	data = append(data, params.encode()...)
	data = append(data, list...)
	data = append(data, efiMap...)
	data = append(data, c.cmdLine...)
	data = append(data, 0)
	return Segment{"boot", at, data}, nil
}

// forKernel is the form that kexec_load takes.
func forKernel(segments []Segment) []kernel.KexecSegment {
	var out []kernel.KexecSegment
	for _, s := range segments {
		out = append(out, kernel.KexecSegment{Data: s.data, Addr: s.Start, Size: s.Size()})
	}
	return out
}
