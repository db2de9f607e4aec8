package kexec

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// pageSize is the size of a page, and what kexec_load aligns segments to, in bytes.
const pageSize = 4096

// kernelImageMax is the most memory that an x86-64 kernel occupies, KERNEL_IMAGE_SIZE of arch/x86/include/asm/page_64_types.h, in bytes.
const kernelImageMax = 1 << 30

// entry64 is the offset of the 64-bit entry point in the protected-mode code of a bzImage: boot.rst, "64-bit boot protocol".
const entry64 = 0x200

// Image is a distribution's kernel file, a bzImage.
type Image struct {
	Path    string
	Version string // as uname -r will print it, for example 6.12.117+deb12-cloud-amd64; "" if the file does not tell
	Banner  string // the whole version message: version, builder, build date

	header  *setupHeader
	file    []byte
	vmlinux []byte // nil unless Vmlinux has unpacked it
}

// Open reads the kernel image at path. A file that cannot be booted gives ErrBadKernel.
func Open(path string) (*Image, error) {
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadKernel, err)
	}
	im, err := parseImage(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	im.Path = path
	return im, nil
}

func parseImage(file []byte) (*Image, error) {
	h, err := parseSetupHeader(file)
	if err != nil {
		return nil, err
	}
	version, _, _ := strings.Cut(h.versionMessage, " ")
	return &Image{Version: version, Banner: h.versionMessage, header: h, file: file}, nil
}

// Compression names how the kernel in the image is packed: gzip, xz, lz4, zstd, or "unknown".
func (im *Image) Compression() string { return detect(im.payload()).String() }

func (im *Image) payload() []byte {
	return im.file[im.header.payload.Start:im.header.payload.End]
}

// Route is the way into the next kernel.
type Route string

const (
	// RouteVmlinux enters the unpacked kernel itself. Nothing is left to decompress in the switch, and the kernel stays where it was put.
	// Its code is not moved to a random address (no KASLR).
	RouteVmlinux Route = "vmlinux"

	// RouteBzImage enters the kernel's own decompressor, which chooses where the kernel goes.
	RouteBzImage Route = "bzImage"
)

// program is a kernel ready to be put into memory.
type program struct {
	route Route
	data  []byte // zeros follow, up to size
	size  uint64 // memory that it owns, in bytes, a multiple of the page size
	entry uint64 // offset of its first instruction
}

// Vmlinux is the ELF file of the kernel itself, which the image keeps until the kernel is loaded. The error is ErrBadKernel for damaged data.
func (im *Image) Vmlinux() ([]byte, error) {
	if im.vmlinux != nil {
		return im.vmlinux, nil
	}
	elf, err := unpack(im.payload(), im.header.initSize)
	if errors.Is(err, errUnknownCompression) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: its payload is damaged: %w", im.Path, ErrBadKernel, err)
	}
	im.vmlinux = elf
	return elf, nil
}

// unpacked is the kernel, ready to be started. The error is errUnknownCompression, or ErrBadKernel for damaged data.
func (im *Image) unpacked() (*program, error) {
	elf, err := im.Vmlinux()
	if err != nil {
		return nil, err
	}
	im.vmlinux = nil // memory may be short
	p, err := layOut(elf, im.header.initSize, im.header.alignment)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: its payload is no usable vmlinux: %w", im.Path, ErrBadKernel, err)
	}
	return p, nil
}

// packed is the kernel behind its own decompressor.
func (im *Image) packed() *program {
	code := im.header.protectedMode
	return &program{
		route: RouteBzImage,
		data:  im.file[code.Start:code.End],
		// The decompressor unpacks in place, and its page tables and heap lie behind it: all of init_size is its own.
		size:  alignUp(im.header.initSize, pageSize),
		entry: entry64,
	}
}
