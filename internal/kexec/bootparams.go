package kexec

import (
	"encoding/binary"
	"fmt"
	"os"
)

// Offsets in struct boot_params ("the zero page") outside of the setup header.
// See Documentation/arch/x86/zero-page.rst and arch/x86/include/uapi/asm/bootparam.h.
const (
	bootParamsSize = 4096

	offScreenInfo      = 0x000 // struct screen_info
	offScreenInfoEnd   = 0x040
	offACPIRSDP        = 0x070 // u64: physical address of the ACPI RSDP, 0: search for it
	offExtRamdiskImage = 0x0c0 // u32: upper half of ramdisk_image
	offExtRamdiskSize  = 0x0c4 // u32
	offExtCmdLinePtr   = 0x0c8 // u32
	offCCBlob          = 0x13c // u32: tables of an SEV-SNP guest, 0: it is none
	offEDIDInfo        = 0x140 // struct edid_info
	offEDIDInfoEnd     = 0x1c0
	offEFIInfo         = 0x1c0 // struct efi_info
	offEFIInfoEnd      = 0x1e0
	offE820Entries     = 0x1e8 // u8
	offSecureBoot      = 0x1ec // u8
	offE820Table       = 0x2d0 // struct boot_e820_entry[128]
)

const runningBootParams = "/sys/kernel/boot_params/data"

// inherited is what the next kernel must learn from the boot_params of the running one, since nobody else knows it after the boot loader has gone.
type inherited struct {
	screenInfo [offScreenInfoEnd - offScreenInfo]byte // the console that the firmware set up
	edidInfo   [offEDIDInfoEnd - offEDIDInfo]byte     // the monitor behind it
	acpiRSDP   uint64
	efi        *efiMachine // nil: the machine was booted by BIOS
}

// readInherited reads the boot_params of the running kernel.
func readInherited() (*inherited, error) {
	page, err := os.ReadFile(runningBootParams)
	if err != nil {
		return nil, fmt.Errorf("%w: the boot parameters of the running kernel: %w", ErrUnsupportedMachine, err)
	}
	return parseInherited(page, efiDir)
}

func parseInherited(page []byte, efiDir string) (*inherited, error) {
	if len(page) != bootParamsSize {
		return nil, fmt.Errorf("%w: %s has %d bytes instead of %d", ErrUnsupportedMachine, runningBootParams, len(page), bootParamsSize)
	}
	if binary.LittleEndian.Uint32(page[offCCBlob:]) != 0 {
		return nil, fmt.Errorf("%w: it is a confidential guest (SEV-SNP), which cannot be handed from kernel to kernel", ErrUnsupportedMachine)
	}
	in := &inherited{acpiRSDP: binary.LittleEndian.Uint64(page[offACPIRSDP:])}
	copy(in.screenInfo[:], page[offScreenInfo:])
	copy(in.edidInfo[:], page[offEDIDInfo:])
	if page[offEFIInfo] == 0 {
		return in, nil
	}
	var err error
	in.efi, err = readEFI(page, efiDir)
	return in, err
}

// bootParams are the answers to all that a kernel asks its boot loader.
type bootParams struct {
	inherited *inherited
	header    *setupHeader
	memory    MemoryMap
	initrd    Range // empty: no initrd
	cmdLine   uint64
	setupData uint64 // physical address of the first one, 0: none
	efiMap    uint64 // physical address of the EFI memory map, where there is one
}

// encode returns the zero page.
func (p *bootParams) encode() []byte {
	page := make([]byte, bootParamsSize)
	le := binary.LittleEndian
	copy(page[offScreenInfo:], p.inherited.screenInfo[:])
	copy(page[offEDIDInfo:], p.inherited.edidInfo[:])
	le.PutUint64(page[offACPIRSDP:], p.inherited.acpiRSDP)

	if p.inherited.efi != nil {
		p.inherited.efi.put(page, p.efiMap)
	}

	copy(page[offSetupSects:], p.header.raw)
	page[offTypeOfLoader] = typeOfLoaderOther
	page[offLoadFlags] |= loadedHigh
	putSplit(page, offRamdiskImage, offExtRamdiskImage, p.initrd.Start)
	putSplit(page, offRamdiskSize, offExtRamdiskSize, p.initrd.Size())
	putSplit(page, offCmdLinePtr, offExtCmdLinePtr, p.cmdLine)
	le.PutUint64(page[offSetupData:], p.setupData)

	inPage := p.memory[:min(len(p.memory), e820TableMax)]
	page[offE820Entries] = byte(len(inPage))
	copy(page[offE820Table:], inPage.encode())
	return page
}

// putSplit writes n to the field of a 32-bit boot loader and its upper half to the field that 2.12 added.
func putSplit(page []byte, low, high int, n uint64) {
	binary.LittleEndian.PutUint32(page[low:], uint32(n))
	binary.LittleEndian.PutUint32(page[high:], uint32(n>>32))
}

// Types of struct setup_data, arch/x86/include/uapi/asm/setup_data.h.
const (
	setupE820Ext = 1
	setupEFI     = 4
	setupRNGSeed = 9

	// setupIndirect says that the data is elsewhere: struct setup_indirect, of another type, which reserves that memory.
	setupIndirect = 1 << 31

	// setupFrames is the type of memory that kup's kernel module looks for; see module/kup-frames/kup_frames_uapi.h.
	setupFrames = setupIndirect | 0x4b5550

	setupDataHeader = 16 // u64 next, u32 type, u32 len
	rngSeedSize     = 32 // what kexec_file_load passes on: arch/x86/kernel/kexec-bzimage64.c
)

// setupData is something for the next kernel that has no place in the zero page.
type setupData struct {
	typ  uint32
	data []byte
}

// encodeSetupData returns the items as the linked list that they are when they lie at address, and how to find the first one.
func encodeSetupData(items []setupData, address uint64) (list []byte, first uint64) {
	for i, item := range items {
		end := alignUp(uint64(len(list)+setupDataHeader+len(item.data)), 8)
		var next uint64
		if i+1 < len(items) {
			next = address + end
		}
		list = binary.LittleEndian.AppendUint64(list, next)
		list = binary.LittleEndian.AppendUint32(list, item.typ)
		list = binary.LittleEndian.AppendUint32(list, uint32(len(item.data)))
		list = append(list, item.data...)
		list = append(list, make([]byte, end-uint64(len(list)))...)
	}
	if len(items) > 0 {
		first = address
	}
	return list, first
}

// reserveMax is how many ranges a kernel can be made to reserve: at 130, Linux 6.12 hangs, and 6.1 silently does not reserve them.
const reserveMax = 100

// reservation is the item that makes the next kernel reserve r: struct setup_indirect, arch/x86/include/uapi/asm/setup_data.h.
func reservation(r Range) setupData {
	data := binary.LittleEndian.AppendUint32(nil, setupFrames)
	data = binary.LittleEndian.AppendUint32(data, 0) // reserved
	data = binary.LittleEndian.AppendUint64(data, r.Size())
	return setupData{setupIndirect, binary.LittleEndian.AppendUint64(data, r.Start)}
}

// checkReserve tells whether memory can be reserved.
func checkReserve(reserve Ranges, memory MemoryMap) error {
	if len(reserve) > reserveMax {
		return fmt.Errorf("%w: %d ranges of memory are to be reserved, and kernels take at most %d", ErrUnsupportedMachine, len(reserve), reserveMax)
	}
	for _, r := range reserve {
		if r.Start%pageSize != 0 || r.End%pageSize != 0 {
			return fmt.Errorf("memory to be reserved, %v, does not consist of whole pages", r)
		}
		if !memory.RAM().Contains(r) {
			return fmt.Errorf("%w: memory to be reserved, %v, is not free for the next kernel", ErrUnsupportedMachine, r)
		}
	}
	// The kernel takes the end of what it need not reserve for the end of memory (arch/x86/kernel/e820.c, e820__end_of_ram_pfn), and hangs if there is more.
	for _, ram := range []Ranges{memory.RAM(), memory.RAM().Within(Range{0, end32})} {
		if n := len(ram); n > 0 && reserve.Overlaps(Range{ram[n-1].End - pageSize, ram[n-1].End}) {
			return fmt.Errorf("%w: the last page of memory, before %#x, is to be reserved, and the next kernel would not find its end", ErrUnsupportedMachine, ram[n-1].End)
		}
	}
	return nil
}

// extraData is what goes into setup_data.
func extraData(memory MemoryMap, reserve Ranges, efi *efiMachine, seed []byte) []setupData {
	items := []setupData{{setupRNGSeed, seed}}
	for _, r := range reserve {
		items = append(items, reservation(r))
	}
	if efi != nil {
		items = append(items, setupData{setupEFI, efi.setupData()})
	}
	if len(memory) > e820TableMax {
		items = append(items, setupData{setupE820Ext, memory[e820TableMax:].encode()})
	}
	return items
}
