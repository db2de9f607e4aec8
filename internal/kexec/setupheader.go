package kexec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// Offsets in a bzImage, and in boot_params, of the fields of struct setup_header.
// See Documentation/arch/x86/boot.rst and arch/x86/include/uapi/asm/bootparam.h.
const (
	offSetupSects        = 0x1f1 // u8: sectors of real-mode code after the boot sector
	offSysSize           = 0x1f4 // u32: size of the protected-mode code in units of 16 bytes
	offBootFlag          = 0x1fe // u16: 0xaa55
	offHeaderLength      = 0x201 // u8: operand of the jump at 0x200: the header ends at 0x202 + this
	offHeaderMagic       = 0x202 // "HdrS"
	offProtocol          = 0x206 // u16: version of the boot protocol, 0x20f is 2.15
	offKernelVersion     = 0x20e // u16: offset - 0x200 of the version string
	offTypeOfLoader      = 0x210 // u8
	offLoadFlags         = 0x211 // u8
	offRamdiskImage      = 0x218 // u32
	offRamdiskSize       = 0x21c // u32
	offCmdLinePtr        = 0x228 // u32
	offInitrdAddrMax     = 0x22c // u32: highest address of the last byte of an initrd
	offKernelAlignment   = 0x230 // u32
	offRelocatableKernel = 0x234 // u8
	offXLoadFlags        = 0x236 // u16
	offCmdLineSize       = 0x238 // u32: longest command line, without the final 0
	offPayloadOffset     = 0x248 // u32: from the start of the protected-mode code
	offPayloadLength     = 0x24c // u32
	offSetupData         = 0x250 // u64: first of the linked list of setup_data
	offPrefAddress       = 0x258 // u64: where the kernel was linked to run
	offInitSize          = 0x260 // u32: memory that the kernel needs from where it runs, until it has its memory map
)

// Bits of loadflags and xloadflags.
const (
	loadedHigh = 1 << 0 // LOADED_HIGH: the protected-mode code is for 1 MB and above

	xlfKernel64      = 1 << 0 // XLF_KERNEL_64: has the 64-bit entry point at 0x200
	xlfLoadAbove4G   = 1 << 1 // XLF_CAN_BE_LOADED_ABOVE_4G: so may initrd, command line and boot_params
	xlf5LevelEnabled = 1 << 6 // XLF_5LEVEL_ENABLED: can run with five levels of page tables
)

const (
	bootFlag           = 0xaa55
	headerMagic        = "HdrS"
	headerSizeMin      = 0x268 // up to the end of init_size, the last field that is read
	bootProtocolMin    = 0x20c // 2.12 brought xloadflags, Linux 3.8
	typeOfLoaderOther  = 0xff  // a boot loader without a number of its own
	sectorSize         = 512
	versionStringLimit = 512
)

// setupHeader is what a bzImage says about itself. Sizes and addresses are in bytes.
type setupHeader struct {
	raw            []byte // the header as it is in the file, from offSetupSects
	protocol       uint16
	protectedMode  Range // in the file
	payload        Range // in the file; the compressed vmlinux
	loadFlags      uint8
	xLoadFlags     uint16
	relocatable    bool
	alignment      uint64
	prefAddress    uint64
	initSize       uint64
	cmdLineSize    uint64
	initrdAddrMax  uint64
	versionMessage string
}

// parseSetupHeader reads and checks the setup header of a bzImage. Its errors are sentences without the file name.
func parseSetupHeader(file []byte) (*setupHeader, error) {
	if len(file) < headerSizeMin {
		return nil, fmt.Errorf("%w: it has only %d bytes", ErrBadKernel, len(file))
	}
	le := binary.LittleEndian
	if le.Uint16(file[offBootFlag:]) != bootFlag || string(file[offHeaderMagic:offHeaderMagic+4]) != headerMagic {
		return nil, fmt.Errorf("%w: it is no bzImage (no %q at %#x); give the vmlinuz file of the kernel package",
			ErrBadKernel, headerMagic, offHeaderMagic)
	}
	h := &setupHeader{
		protocol:      le.Uint16(file[offProtocol:]),
		loadFlags:     file[offLoadFlags],
		xLoadFlags:    le.Uint16(file[offXLoadFlags:]),
		relocatable:   file[offRelocatableKernel] != 0,
		alignment:     uint64(le.Uint32(file[offKernelAlignment:])),
		prefAddress:   le.Uint64(file[offPrefAddress:]),
		initSize:      uint64(le.Uint32(file[offInitSize:])),
		cmdLineSize:   uint64(le.Uint32(file[offCmdLineSize:])),
		initrdAddrMax: uint64(le.Uint32(file[offInitrdAddrMax:])),
	}
	if h.protocol < bootProtocolMin {
		return nil, fmt.Errorf("%w: it speaks boot protocol %d.%02d, but 2.12 (Linux 3.8) is needed", ErrBadKernel, h.protocol>>8, h.protocol&0xff)
	}
	if h.xLoadFlags&xlfKernel64 == 0 || h.loadFlags&loadedHigh == 0 {
		return nil, fmt.Errorf("%w: it has no 64-bit entry point; an x86-64 kernel is needed", ErrBadKernel)
	}
	if !h.relocatable || h.alignment < pageSize || h.alignment&(h.alignment-1) != 0 {
		return nil, fmt.Errorf("%w: it cannot be placed freely in memory; a kernel with CONFIG_RELOCATABLE is needed", ErrBadKernel)
	}
	if err := h.locate(file); err != nil {
		return nil, err
	}
	return h, nil
}

// locate finds the parts of the file that the header points to.
func (h *setupHeader) locate(file []byte) error {
	le := binary.LittleEndian
	end := headerEnd(file)
	if end < headerSizeMin || end > len(file) {
		return fmt.Errorf("%w: its setup header ends at %#x", ErrBadKernel, end)
	}
	h.raw = bytes.Clone(file[offSetupSects:end])

	sects := uint64(file[offSetupSects])
	if sects == 0 {
		sects = 4 // boot.rst: for backwards compatibility
	}
	h.protectedMode.Start = (sects + 1) * sectorSize
	h.protectedMode.End = h.protectedMode.Start + 16*uint64(le.Uint32(file[offSysSize:]))
	if h.protectedMode.End > uint64(len(file)) {
		return fmt.Errorf("%w: it is truncated: %d bytes of %d", ErrBadKernel, len(file), h.protectedMode.End)
	}
	h.payload.Start = h.protectedMode.Start + uint64(le.Uint32(file[offPayloadOffset:]))
	h.payload.End = h.payload.Start + uint64(le.Uint32(file[offPayloadLength:]))
	if !h.protectedMode.Contains(h.payload) {
		return fmt.Errorf("%w: its payload %v is outside of its code %v", ErrBadKernel, h.payload, h.protectedMode)
	}
	if h.initSize < h.protectedMode.Size() || h.initSize > kernelImageMax {
		return fmt.Errorf("%w: it claims to need %d bytes of memory for %d bytes of packed code", ErrBadKernel, h.initSize, h.protectedMode.Size())
	}
	h.versionMessage = versionMessage(file, h.protectedMode.Start)
	return nil
}

// headerEnd is the file offset behind the setup header.
func headerEnd(file []byte) int { return offHeaderMagic + int(file[offHeaderLength]) }

// versionMessage is the string that kernel_version points to, "" if there is none.
func versionMessage(file []byte, limit uint64) string {
	at := uint64(binary.LittleEndian.Uint16(file[offKernelVersion:]))
	if at == 0 || at+0x200 >= limit {
		return ""
	}
	text := file[at+0x200 : min(limit, at+0x200+versionStringLimit)]
	text, _, _ = bytes.Cut(text, []byte{0})
	return strings.ToValidUTF8(string(text), "?")
}
