package kexec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// firmwareEntry is one folder of /sys/firmware/memmap; end is inclusive there.
type firmwareEntry struct {
	start, end uint64
	typ        string
}

// writeFirmwareMap writes the files of /sys/firmware/memmap.
func writeFirmwareMap(t *testing.T, entries ...firmwareEntry) string {
	t.Helper()
	dir := t.TempDir()
	for i, e := range entries {
		sub := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(sub, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{
			"start": fmt.Sprintf("%#x\n", e.start), "end": fmt.Sprintf("%#x\n", e.end), "type": e.typ + "\n",
		} {
			if err := os.WriteFile(filepath.Join(sub, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func TestMemoryMapKeepsEachTypeOfTheKernel(t *testing.T) {
	dir := writeFirmwareMap(t,
		firmwareEntry{0x100000, 0x7fffffff, "System RAM"},
		firmwareEntry{0, 0x9fbff, "System RAM"},
		firmwareEntry{0x9fc00, 0x9ffff, "Reserved"},
		firmwareEntry{0x80000000, 0x8000ffff, "ACPI Tables"},
		firmwareEntry{0x80010000, 0x8001ffff, "ACPI Non-volatile Storage"},
		firmwareEntry{0x80020000, 0x8002ffff, "Unusable memory"},
		firmwareEntry{0x80030000, 0x8003ffff, "Unknown E820 type"},
		firmwareEntry{0x100000000, 0x13fffffff, "Persistent Memory"},
		firmwareEntry{0x140000000, 0x17fffffff, "Persistent Memory (legacy)"},
		firmwareEntry{0x180000000, 0x1bfffffff, "Soft Reserved"},
		firmwareEntry{0xfffc0000, 0xffffffff, "reserved"},
	)
	got, err := readMemoryMap(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := MemoryMap{
		{Range{0, 0x9fc00}, 1},
		{Range{0x9fc00, 0xa0000}, 2},
		{Range{0x100000, 0x80000000}, 1},
		{Range{0x80000000, 0x80010000}, 3},
		{Range{0x80010000, 0x80020000}, 4},
		{Range{0x80020000, 0x80030000}, 5},
		{Range{0x80030000, 0x80040000}, 2},
		{Range{0xfffc0000, 0x100000000}, 2},
		{Range{0x100000000, 0x140000000}, 7},
		{Range{0x140000000, 0x180000000}, 12},
		{Range{0x180000000, 0x1c0000000}, 0xefffffff},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Ranges{{0, 0x9fc00}, {0x100000, 0x80000000}}, got.RAM()); diff != "" {
		t.Errorf("RAM: %s", diff)
	}
}

func TestStrangeMemoryMapIsRefused(t *testing.T) {
	ram := firmwareEntry{0, 0xfffff, "System RAM"}
	for _, tt := range []struct {
		name string
		dir  string
	}{
		{"missing", "/no/such/directory"},
		{"empty", t.TempDir()},
		{"no RAM", writeFirmwareMap(t, firmwareEntry{0, 0xfff, "Reserved"})},
		{"a type of a later kernel", writeFirmwareMap(t, ram, firmwareEntry{0x100000, 0x1fffff, "Quantum Memory"})},
		{"reversed", writeFirmwareMap(t, ram, firmwareEntry{0x200000, 0x100000, "System RAM"})},
		{"all of the address space", writeFirmwareMap(t, firmwareEntry{0, ^uint64(0), "System RAM"})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if m, err := readMemoryMap(tt.dir); !errors.Is(err, ErrUnsupportedMachine) {
				t.Errorf("%v, %v", m, err)
			}
		})
	}
}

func TestRAMExcludesWhatIsClaimedTwice(t *testing.T) {
	m := MemoryMap{
		{Range{0, 0x1000}, MemoryReserved},
		{Range{0, 0x100000}, MemoryRAM},
		{Range{0x80000, 0x90000}, MemorySoft},
	}
	if diff := cmp.Diff(Ranges{{0x1000, 0x80000}, {0x90000, 0x100000}}, m.RAM()); diff != "" {
		t.Error(diff)
	}
}

func TestE820EntriesHave20Bytes(t *testing.T) {
	b := MemoryMap{{Range{0x1000, 0x3000}, MemoryRAM}, {Range{1 << 40, 1<<40 + 1}, MemorySoft}}.encode()
	if len(b) != 2*e820EntrySize {
		t.Fatalf("%d bytes", len(b))
	}
	le := binary.LittleEndian
	if a, n, typ := le.Uint64(b[20:]), le.Uint64(b[28:]), le.Uint32(b[36:]); a != 1<<40 || n != 1 || typ != 0xefffffff {
		t.Errorf("%#x + %#x, type %#x", a, n, typ)
	}
}

// TestKeptMemoryCanBeFreed takes memory from the next kernel, and gives it back to the one after it.
func TestKeptMemoryCanBeFreed(t *testing.T) {
	ram := MemoryMap{{Range{0, 0x1000}, MemoryRAM}, {Range{0x1000, 0x2000}, MemoryReserved}, {Range{0x2000, 0x9000}, MemoryRAM}}
	keep := Ranges{{0x800, 0x3000}, {0x5000, 0x6000}}
	kept := ram.Keep(keep, 0)
	want := MemoryMap{
		{Range{0, 0x800}, MemoryRAM}, {Range{0x800, 0x1000}, MemorySoft}, {Range{0x1000, 0x2000}, MemoryReserved},
		{Range{0x2000, 0x3000}, MemorySoft}, {Range{0x3000, 0x5000}, MemoryRAM}, {Range{0x5000, 0x6000}, MemorySoft}, {Range{0x6000, 0x9000}, MemoryRAM},
	}
	if diff := cmp.Diff(want, kept); diff != "" {
		t.Errorf("kept: %s", diff)
	}
	if diff := cmp.Diff(Ranges{{0x800, 0x1000}, {0x2000, 0x3000}, {0x5000, 0x6000}}, kept.Of(MemorySoft)); diff != "" {
		t.Errorf("soft reserved: %s", diff)
	}
	if diff := cmp.Diff(ram, kept.Free(keep)); diff != "" {
		t.Errorf("freed: %s", diff)
	}
}

// TestKeptMemoryComesInUnits takes memory from the next kernel so that it can have it back piece by piece.
func TestKeptMemoryComesInUnits(t *testing.T) {
	ram := MemoryMap{{Range{0, 0x9000}, MemoryRAM}, {Range{0x9000, 0xa000}, MemorySoft}}
	kept := ram.Keep(Ranges{{0x1000, 0x2000}, {0x3000, 0x7000}, {0x8000, 0x9000}}, 0x2000)
	want := MemoryMap{
		{Range{0, 0x1000}, MemoryRAM}, {Range{0x1000, 0x2000}, MemorySoft}, {Range{0x2000, 0x3000}, MemoryRAM},
		{Range{0x3000, 0x4000}, MemorySoft}, {Range{0x4000, 0x6000}, MemorySoft}, {Range{0x6000, 0x7000}, MemorySoft},
		{Range{0x7000, 0x8000}, MemoryRAM}, {Range{0x8000, 0x9000}, MemorySoft}, {Range{0x9000, 0xa000}, MemorySoft},
	}
	if diff := cmp.Diff(want, kept); diff != "" {
		t.Errorf("kept: %s", diff)
	}
	if diff := cmp.Diff(ram, kept.Free(Ranges{{0, 0x9000}})); diff != "" {
		t.Errorf("freed: %s", diff)
	}
}
