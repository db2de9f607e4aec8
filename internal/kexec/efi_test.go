package kexec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// efiPage is boot_params of a machine booted by 64-bit EFI, with memory descriptors of 48 bytes as OVMF has them.
func efiPage() []byte {
	page := make([]byte, bootParamsSize)
	info := page[offEFIInfo:]
	copy(info, efiLoader64)
	le := binary.LittleEndian
	le.PutUint32(info[4:], 0x3f9ee018) // efi_systab
	le.PutUint32(info[efiInfoDescSize:], 48)
	le.PutUint32(info[0xc:], 1)         // efi_memdesc_version
	le.PutUint32(info[efiInfoMap:], 42) // of the first kernel: gone
	le.PutUint32(info[efiInfoMapHigh:], 42)
	page[offSecureBoot] = 2
	return page
}

// writeEFI writes the files of /sys/firmware/efi.
func writeEFI(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{
		"fw_vendor": "0x3f9ec018\n", "config_table": "0x3fbff000\n", "systab": "ACPI20=0x3fb7e014\nACPI=0x3fb7e000\nSMBIOS=0x3f918000\n",
	}
	for i, physical := range []uint64{0x3f8ec000, 0x3f7ff000} {
		sub := fmt.Sprintf("runtime-map/%d/", i)
		files[sub+"type"] = fmt.Sprintf("%#x\n", 5+i)
		files[sub+"phys_addr"] = fmt.Sprintf("%#x\n", physical)
		files[sub+"virt_addr"] = fmt.Sprintf("%#x\n", physical|0xffffffee00000000)
		files[sub+"num_pages"] = "0x10\n"
		files[sub+"attribute"] = "0x800000000000000f\n"
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestEFIFactsAreRead(t *testing.T) {
	in, err := parseInherited(efiPage(), writeEFI(t))
	if err != nil {
		t.Fatal(err)
	}
	m := in.efi
	if m.fwVendor != 0x3f9ec018 || m.tables != 0x3fbff000 || m.smbios != 0x3f918000 || m.secureBoot != 2 {
		t.Errorf("%+v", m)
	}
	want := []Range{{0x3f8ec000, 0x3f8fc000}, {0x3f7ff000, 0x3f80f000}}
	if diff := cmp.Diff(want, m.reserved()); diff != "" {
		t.Error(diff)
	}
}

func TestEFIThatCannotBePassedOnIsRefused(t *testing.T) {
	mixed := efiPage()
	copy(mixed[offEFIInfo:], "EL32")
	noSize := efiPage()
	clear(noSize[offEFIInfo+efiInfoDescSize:][:4])
	for _, tt := range []struct {
		name string
		page []byte
		dir  string
	}{
		{"32-bit firmware", mixed, writeEFI(t)},
		{"no descriptor size", noSize, writeEFI(t)},
		{"noefi", efiPage(), t.TempDir()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parseInherited(tt.page, tt.dir); !errors.Is(err, ErrUnsupportedMachine) {
				t.Error(err)
			}
		})
	}
}

func TestEFIIsPassedOn(t *testing.T) {
	c := testCargo(t, ram(Range{0, 64 << 20}, Range{0x3f000000, 0x40000000}), 4096)
	var err error
	if c.inherited, err = parseInherited(efiPage(), writeEFI(t)); err != nil {
		t.Fatal(err)
	}
	s := bootSegment(t, c)
	page := s.at(s.Start + trampolineSize)[:bootParamsSize]
	le := binary.LittleEndian
	info := page[offEFIInfo:offEFIInfoEnd]
	if string(info[:4]) != efiLoader64 || le.Uint32(info[4:]) != 0x3f9ee018 || page[offSecureBoot] != 2 {
		t.Errorf("efi_info % x", info)
	}
	if n := le.Uint32(info[efiInfoMapSize:]); n != 2*48 {
		t.Errorf("memory map of %d bytes", n)
	}
	region := s.at(uint64(le.Uint32(info[efiInfoMap:])) | uint64(le.Uint32(info[efiInfoMapHigh:]))<<32)[48:96]
	var words []uint64
	for i := 0; i < len(region); i += 8 {
		words = append(words, le.Uint64(region[i:]))
	}
	if diff := cmp.Diff([]uint64{6, 0x3f7ff000, 0xffffffee3f7ff000, 0x10, 0x800000000000000f, 0}, words); diff != "" {
		t.Errorf("second region: %s", diff)
	}
	if !bytes.Contains(s.data, c.inherited.efi.setupData()) {
		t.Error("no efi_setup_data")
	}
}

func TestNothingIsPlacedOverEFI(t *testing.T) {
	c := testCargo(t, ram(Range{0, 64 << 20}, Range{0x3f7f0000, 0x3f900000}), 0x10000)
	var err error
	if c.inherited, err = parseInherited(efiPage(), writeEFI(t)); err != nil {
		t.Fatal(err)
	}
	segments, _, err := place(c)
	if err != nil {
		t.Fatal(err)
	}
	reserved := NewRanges(c.inherited.efi.reserved()...)
	for _, s := range segments {
		if reserved.Overlaps(s.Range) {
			t.Errorf("%s %v is on memory of the firmware, %v", s.Name, s.Range, reserved)
		}
	}
	if initrd := segments[1]; initrd.Start != 0x3f8dc000 {
		t.Errorf("initrd %v: should lie right below the firmware's region", initrd.Range)
	}
}
