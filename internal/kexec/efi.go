package kexec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	efiDir = "/sys/firmware/efi"

	efiLoader64   = "EL64" // efi_loader_signature: the boot loader was started by 64-bit firmware
	efiPageSize   = 4096
	efiDescriptor = 40 // sizeof(efi_memory_desc_t), include/linux/efi.h; the firmware's own may be longer

	// Offsets in struct efi_info, arch/x86/include/uapi/asm/bootparam.h. The system table is passed on as it is.
	efiInfoDescSize  = 0x08 // u32
	efiInfoMap       = 0x10 // u32
	efiInfoMapSize   = 0x14 // u32
	efiInfoMapHigh   = 0x1c // u32
	efiSetupDataSize = 96   // struct efi_setup_data, arch/x86/include/asm/efi.h: fw_vendor, unused, tables, smbios, 8 reserved words
)

// efiMachine is what a kernel must know of EFI firmware after another kernel has called SetVirtualAddressMap, which works once only: the runtime
// services stay at the virtual addresses that the first kernel chose.
type efiMachine struct {
	info       [offEFIInfoEnd - offEFIInfo]byte // struct efi_info of the running kernel
	secureBoot byte
	fwVendor   uint64 // addresses that SetVirtualAddressMap has changed in the firmware's system table
	tables     uint64
	smbios     uint64 // 0: none
	runtime    []efiRegion
}

// efiRegion is an efi_memory_desc_t.
type efiRegion struct {
	typ, physical, virtual, pages, attributes uint64
}

// readEFI reads what the running kernel publishes for this purpose: Documentation/ABI/testing/sysfs-firmware-efi and -efi-runtime-map.
func readEFI(page []byte, dir string) (*efiMachine, error) {
	if string(page[offEFIInfo:offEFIInfo+len(efiLoader64)]) != efiLoader64 {
		return nil, fmt.Errorf("%w: its EFI firmware is not 64-bit", ErrUnsupportedMachine)
	}
	m := &efiMachine{secureBoot: page[offSecureBoot]}
	copy(m.info[:], page[offEFIInfo:])
	if size := m.descriptorSize(); size < efiDescriptor || size > efiPageSize {
		return nil, fmt.Errorf("%w: its EFI memory descriptors have %d bytes", ErrUnsupportedMachine, size)
	}
	var err error
	if m.runtime, err = readRuntimeMap(filepath.Join(dir, "runtime-map")); err != nil {
		return nil, err
	}
	if m.fwVendor, err = readHex(filepath.Join(dir, "fw_vendor")); err != nil {
		return nil, err
	}
	if m.tables, err = readHex(filepath.Join(dir, "config_table")); err != nil {
		return nil, err
	}
	systab, err := os.ReadFile(filepath.Join(dir, "systab"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(systab)) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "SMBIOS="); ok {
			if m.smbios, err = strconv.ParseUint(text, 0, 64); err != nil {
				return nil, fmt.Errorf("%s/systab: %w", dir, err)
			}
		}
	}
	return m, nil
}

// readRuntimeMap reads the regions that the running kernel has mapped for the firmware.
func readRuntimeMap(dir string) ([]efiRegion, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: it was booted by EFI, but the running kernel does not use the firmware any more (no %s), "+
			"so that the next one could not either; boot without noefi and efi=noruntime", ErrUnsupportedMachine, dir)
	}
	if err != nil {
		return nil, err
	}
	regions := make([]efiRegion, len(entries))
	for i := range entries {
		r := &regions[i] // numbered without gaps, in the order of the running kernel's own map
		for name, field := range map[string]*uint64{
			"type": &r.typ, "phys_addr": &r.physical, "virt_addr": &r.virtual, "num_pages": &r.pages, "attribute": &r.attributes,
		} {
			if *field, err = readHex(filepath.Join(dir, strconv.Itoa(i), name)); err != nil {
				return nil, err
			}
		}
	}
	return regions, nil
}

func (m *efiMachine) descriptorSize() int {
	return int(binary.LittleEndian.Uint32(m.info[efiInfoDescSize:]))
}

// reserved are the regions that the firmware uses. The memory map calls some of them System RAM: tables that the running kernel keeps.
func (m *efiMachine) reserved() []Range {
	var all []Range
	for _, r := range m.runtime {
		all = append(all, Range{r.physical, r.physical + r.pages*efiPageSize})
	}
	return all
}

// memoryMap is the EFI memory map for the next kernel: only what the firmware uses, at its virtual addresses. e820 tells the rest.
func (m *efiMachine) memoryMap() []byte {
	le := binary.LittleEndian
	var b []byte
	for _, r := range m.runtime {
		d := make([]byte, m.descriptorSize())
		le.PutUint32(d, uint32(r.typ))
		le.PutUint64(d[8:], r.physical)
		le.PutUint64(d[16:], r.virtual)
		le.PutUint64(d[24:], r.pages)
		le.PutUint64(d[32:], r.attributes)
		b = append(b, d...)
	}
	return b
}

// setupData is struct efi_setup_data.
func (m *efiMachine) setupData() []byte {
	b := make([]byte, efiSetupDataSize)
	le := binary.LittleEndian
	le.PutUint64(b[0:], m.fwVendor)
	le.PutUint64(b[16:], m.tables)
	le.PutUint64(b[24:], m.smbios)
	return b
}

// put writes struct efi_info into boot_params, for a memory map that lies at address.
func (m *efiMachine) put(page []byte, address uint64) {
	page[offSecureBoot] = m.secureBoot
	info := page[offEFIInfo:offEFIInfoEnd]
	copy(info, m.info[:])
	putSplit(info, efiInfoMap, efiInfoMapHigh, address)
	binary.LittleEndian.PutUint32(info[efiInfoMapSize:], uint32(len(m.runtime)*m.descriptorSize()))
}
