package kexec

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// MemoryType is the type of an e820 entry, enum e820_type of arch/x86/include/asm/e820/types.h.
type MemoryType uint32

// The types that a kernel makes a difference between.
const (
	MemoryRAM        MemoryType = 1
	MemoryReserved   MemoryType = 2
	MemoryACPI       MemoryType = 3 // ACPI tables, free after they were read
	MemoryNVS        MemoryType = 4 // ACPI non-volatile storage
	MemoryUnusable   MemoryType = 5
	MemoryPersistent MemoryType = 7
	MemoryPRAM       MemoryType = 12 // persistent memory of before ACPI 6
	MemorySoft       MemoryType = 0xefffffff
)

// MemoryEntry is one entry of the memory map that a kernel is booted with.
type MemoryEntry struct {
	Range
	Type MemoryType
}

// MemoryMap is an e820 map, sorted by address.
type MemoryMap []MemoryEntry

const (
	firmwareMap = "/sys/firmware/memmap"

	e820EntrySize = 20  // struct boot_e820_entry: u64 addr, u64 size, u32 type
	e820TableMax  = 128 // E820_MAX_ENTRIES_ZEROPAGE
)

// memoryTypes has the names that the kernel gives to e820 types in sysfs: arch/x86/kernel/e820.c, e820_type_to_string.
var memoryTypes = map[string]MemoryType{
	"System RAM":                 MemoryRAM,
	"Reserved":                   MemoryReserved,
	"reserved":                   MemoryReserved, // before 4.11
	"ACPI Tables":                MemoryACPI,
	"ACPI Non-volatile Storage":  MemoryNVS,
	"Unusable memory":            MemoryUnusable,
	"Persistent Memory":          MemoryPersistent,
	"Persistent Memory (legacy)": MemoryPRAM,
	"Soft Reserved":              MemorySoft,
	// A type of the firmware's own: whatever it is, it is not ours.
	"Unknown E820 type": MemoryReserved,
}

// ReadMemoryMap reads the memory map that the running kernel was booted with, before any change by its command line.
// See Documentation/ABI/testing/sysfs-firmware-memmap.
func ReadMemoryMap() (MemoryMap, error) { return readMemoryMap(firmwareMap) }

func readMemoryMap(dir string) (MemoryMap, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s is missing; a kernel with CONFIG_FIRMWARE_MEMMAP is needed", ErrUnsupportedMachine, dir)
	}
	if err != nil {
		return nil, err
	}
	var m MemoryMap
	for _, e := range entries {
		entry, err := readMemoryEntry(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		m = append(m, entry)
	}
	slices.SortFunc(m, func(a, b MemoryEntry) int { return cmp.Compare(a.Start, b.Start) })
	if m.RAM().Size() == 0 {
		return nil, fmt.Errorf("%w: %s lists no System RAM", ErrUnsupportedMachine, dir)
	}
	return m, nil
}

func readMemoryEntry(dir string) (e MemoryEntry, err error) {
	start, err := readHex(filepath.Join(dir, "start"))
	if err != nil {
		return e, err
	}
	last, err := readHex(filepath.Join(dir, "end"))
	if err != nil {
		return e, err
	}
	name, err := readTrimmed(filepath.Join(dir, "type"))
	if err != nil {
		return e, err
	}
	typ, known := memoryTypes[name]
	if !known || last < start || last+1 == 0 {
		return e, fmt.Errorf("%w: %s has %q from %#x to %#x", ErrUnsupportedMachine, dir, name, start, last)
	}
	return MemoryEntry{Range{start, last + 1}, typ}, nil
}

// RAM is the memory that a kernel may use freely.
func (m MemoryMap) RAM() Ranges {
	var ram []Range
	for _, e := range m {
		if e.Type == MemoryRAM {
			ram = append(ram, e.Range)
		}
	}
	// What the firmware claims twice is not free.
	free := NewRanges(ram...)
	for _, e := range m {
		if e.Type != MemoryRAM {
			free = free.Minus(e.Range)
		}
	}
	return free
}

// Of returns the memory of one type.
func (m MemoryMap) Of(t MemoryType) Ranges {
	var all []Range
	for _, e := range m {
		if e.Type == t {
			all = append(all, e.Range)
		}
	}
	return NewRanges(all...)
}

// Keep returns a map in which RAM is soft reserved: the next kernel leaves it alone until it is asked for it. It can be asked for each entry alone; none goes across a
// multiple of unit, bytes, if that is not 0.
func (m MemoryMap) Keep(rs Ranges, unit uint64) MemoryMap {
	return m.retype(rs, MemoryRAM, MemorySoft, unit)
}

// Free takes Keep back.
func (m MemoryMap) Free(rs Ranges) MemoryMap { return m.retype(rs, MemorySoft, MemoryRAM, 0) }

// retype gives that part of rs another type which has a certain one, in entries that do not go across a multiple of unit.
func (m MemoryMap) retype(rs Ranges, from, to MemoryType, unit uint64) MemoryMap {
	var out MemoryMap
	for _, e := range m {
		if e.Type != from {
			out = append(out, e)
			continue
		}
		rest := Ranges{e.Range}
		for _, r := range rs.Within(e.Range) {
			for _, part := range r.Split(unit) {
				out = append(out, MemoryEntry{part, to})
			}
			rest = rest.Minus(r)
		}
		for _, r := range rest {
			out = append(out, MemoryEntry{r, from})
		}
	}
	slices.SortFunc(out, func(a, b MemoryEntry) int { return cmp.Compare(a.Start, b.Start) })
	return out.joined()
}

// joined returns the map with neighbours of one type as one entry, unless they are soft reserved: a kernel leaves these apart, too (arch/x86/kernel/e820.c,
// e820_nomerge).
func (m MemoryMap) joined() MemoryMap {
	var out MemoryMap
	for _, e := range m {
		if n := len(out); n > 0 && e.Type != MemorySoft && out[n-1].Type == e.Type && out[n-1].End == e.Start {
			out[n-1].End = e.End
			continue
		}
		out = append(out, e)
	}
	return out
}

// encode returns m as struct boot_e820_entry.
func (m MemoryMap) encode() []byte {
	var b []byte
	for _, e := range m {
		b = binary.LittleEndian.AppendUint64(b, e.Start)
		b = binary.LittleEndian.AppendUint64(b, e.Size())
		b = binary.LittleEndian.AppendUint32(b, uint32(e.Type))
	}
	return b
}

// readTrimmed reads a small file of sysfs or procfs without the final newline.
func readTrimmed(path string) (string, error) {
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

func readHex(path string) (uint64, error) {
	text, err := readTrimmed(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 0, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}
