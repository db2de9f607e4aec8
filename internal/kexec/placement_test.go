package kexec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/arch/x86/x86asm"
)

// ram builds a memory map of RAM alone.
func ram(rs ...Range) MemoryMap {
	var m MemoryMap
	for _, r := range rs {
		m = append(m, MemoryEntry{r, MemoryRAM})
	}
	return m
}

// testCargo is the kernel of testBzImage for a machine with the given memory.
func testCargo(t *testing.T, memory MemoryMap, initrdSize int) *cargo {
	t.Helper()
	im, err := parseImage(testBzImage(packers["zstd"](t, testELF(testBase+0x10, testSegments()...))))
	if err != nil {
		t.Fatal(err)
	}
	p, err := im.unpacked()
	if err != nil {
		t.Fatal(err)
	}
	return &cargo{
		header: im.header, program: p, initrd: bytes.Repeat([]byte{7}, initrdSize), cmdLine: "console=ttyS0 quiet",
		seed: make([]byte, rngSeedSize), memory: memory, inherited: &inherited{acpiRSDP: 0xf5b20},
	}
}

func TestPlacement(t *testing.T) {
	const mb, gb = 1 << 20, 1 << 30
	low := Range{0, 0x9fc00}
	for _, tt := range []struct {
		name                 string
		memory               MemoryMap
		initrd               int
		kernel, disk, params uint64 // where they start
	}{
		{
			name: "small PC", memory: ram(low, Range{1 * mb, 128 * mb}), initrd: 10000,
			kernel: 16 * mb, disk: 128*mb - 3*pageSize, params: 1 * mb,
		}, {
			name: "initrd stays below initrd_addr_max", memory: ram(low, Range{1 * mb, 3 * gb}, Range{4 * gb, 8 * gb}), initrd: pageSize,
			kernel: 16 * mb, disk: 2*gb - pageSize, params: 1 * mb,
		}, {
			name: "kernel moves up where its address is taken", memory: ram(low, Range{1 * mb, 17 * mb}, Range{19 * mb, 64 * mb}), initrd: pageSize,
			kernel: 20 * mb, disk: 64*mb - pageSize, params: 1 * mb,
		}, {
			name: "kernel never goes below its address", memory: ram(low, Range{1 * mb, 12 * mb}, Range{32 * mb, 64 * mb}), initrd: pageSize,
			kernel: 32 * mb, disk: 64*mb - pageSize, params: 1 * mb,
		}, {
			name: "all above 4 GB", memory: ram(low, Range{4 * gb, 5 * gb}), initrd: pageSize,
			kernel: 4 * gb, disk: 4*gb + testInitSize, params: 4*gb + testInitSize + pageSize,
		}, {
			name: "initrd above 4 GB when there is no room below", memory: ram(low, Range{1 * mb, 32 * mb}, Range{4 * gb, 5 * gb}), initrd: 20 * mb,
			kernel: 16 * mb, disk: 4 * gb, params: 1 * mb,
		}, {
			name: "no initrd", memory: ram(low, Range{1 * mb, 128 * mb}),
			kernel: 16 * mb, params: 1 * mb,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := testCargo(t, tt.memory, tt.initrd)
			segments, entry, err := place(c)
			if err != nil {
				t.Fatal(err)
			}
			starts := map[string]uint64{}
			for i, s := range segments {
				starts[s.Name] = s.Start
				checkSegment(t, c, s)
				for _, other := range segments[:i] {
					if s.Overlaps(other.Range) {
						t.Errorf("%s %v overlaps %s %v", s.Name, s.Range, other.Name, other.Range)
					}
				}
			}
			if starts["kernel"] != tt.kernel || starts["initrd"] != tt.disk || starts["boot"] != tt.params || entry != tt.params {
				t.Errorf("kernel %#x, initrd %#x, boot %#x, entry %#x", starts["kernel"], starts["initrd"], starts["boot"], entry)
			}
		})
	}
}

// checkSegment checks what kexec_load demands of each segment.
func checkSegment(t *testing.T, c *cargo, s Segment) {
	t.Helper()
	if s.Start%pageSize != 0 || s.Size()%pageSize != 0 || uint64(len(s.data)) > s.Size() {
		t.Errorf("%s: %d bytes in %v", s.Name, len(s.data), s.Range)
	}
	if !c.memory.RAM().Contains(s.Range) || s.Start < lowMemoryEnd {
		t.Errorf("%s: %v is not usable memory", s.Name, s.Range)
	}
}

func TestNoPlaceIsErrNoMemory(t *testing.T) {
	const mb, gb = 1 << 20, 1 << 30
	for _, tt := range []struct {
		name   string
		memory MemoryMap
		flags  uint16
		initrd int
	}{
		{"nothing above 16 MB", ram(Range{0, 16 * mb}), 0x7f, 0},
		{"holes", ram(Range{0, 20 * mb}, Range{21 * mb, 25 * mb}), 0x7f, 0},
		{"initrd", ram(Range{0, 32 * mb}), 0x7f, 16 * mb},
		{"only above 4 GB, which the kernel cannot", ram(Range{0, mb}, Range{4 * gb, 5 * gb}), xlfKernel64, 0},
		{"no page for the boot parameters", ram(Range{16 * mb, 16*mb + testInitSize}), 0x7f, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := testCargo(t, tt.memory, tt.initrd)
			c.header.xLoadFlags = tt.flags
			if s, _, err := place(c); !errors.Is(err, ErrNoMemory) {
				t.Errorf("%v, %v", s, err)
			}
		})
	}
}

// bootSegment places c and returns the boot segment.
func bootSegment(t *testing.T, c *cargo) Segment {
	t.Helper()
	segments, _, err := place(c)
	if err != nil {
		t.Fatal(err)
	}
	return segments[len(segments)-1]
}

// at returns the bytes of s from a physical address on.
func (s Segment) at(address uint64) []byte { return s.data[address-s.Start:] }

func TestBootParamsTellTheNextKernelEverything(t *testing.T) {
	c := testCargo(t, ram(Range{0, 0x9fc00}, Range{4 << 30, 5 << 30}), 12345)
	for i := range c.inherited.screenInfo {
		c.inherited.screenInfo[i] = byte(i)
	}
	s := bootSegment(t, c)
	page := s.at(s.Start + trampolineSize)[:bootParamsSize]
	le := binary.LittleEndian
	split := func(low, high int) uint64 {
		return uint64(le.Uint32(page[low:])) | uint64(le.Uint32(page[high:]))<<32
	}
	if !bytes.Equal(page[:offScreenInfoEnd], c.inherited.screenInfo[:]) {
		t.Error("screen_info differs")
	}
	if !bytes.Equal(page[offHeaderMagic:offHeaderMagic+4], []byte(headerMagic)) || page[offTypeOfLoader] != 0xff || page[offLoadFlags]&1 != 1 {
		t.Error("setup header differs")
	}
	if page[0x1ef] != 0 {
		t.Error("sentinel is set: the kernel would clear what we wrote")
	}
	for _, tt := range []struct {
		name      string
		got, want uint64
	}{
		{"acpi_rsdp_addr", le.Uint64(page[offACPIRSDP:]), 0xf5b20},
		{"initrd size", split(offRamdiskSize, offExtRamdiskSize), 12345},
		{"initrd", split(offRamdiskImage, offExtRamdiskImage), 4<<30 + testInitSize},
		{"e820 entries", uint64(page[offE820Entries]), 2},
		{"second e820 entry", le.Uint64(page[offE820Table+e820EntrySize:]), 4 << 30},
	} {
		if tt.got != tt.want {
			t.Errorf("%s = %#x, want %#x", tt.name, tt.got, tt.want)
		}
	}
	line, _, _ := bytes.Cut(s.at(split(offCmdLinePtr, offExtCmdLinePtr)), []byte{0})
	if string(line) != c.cmdLine {
		t.Errorf("command line %q", line)
	}
}

func TestLargeMemoryMapContinuesInSetupData(t *testing.T) {
	for _, n := range []int{1, e820TableMax, e820TableMax + 1, 300} {
		memory := ram(Range{0x100000, 0x8000000})
		for i := 1; i < n; i++ {
			start := uint64(i) << 32
			memory = append(memory, MemoryEntry{Range{start, start + 0x1000}, MemoryReserved})
		}
		c := testCargo(t, memory, 0)
		c.seed = bytes.Repeat([]byte{9}, rngSeedSize)
		s := bootSegment(t, c)
		page := s.at(s.Start + trampolineSize)
		table := bytes.Clone(page[offE820Table:][:int(page[offE820Entries])*e820EntrySize])
		seeds := 0
		le := binary.LittleEndian
		for next := le.Uint64(page[offSetupData:]); next != 0; {
			item := s.at(next)
			if next%8 != 0 {
				t.Errorf("setup_data at %#x", next)
			}
			data := item[setupDataHeader:][:le.Uint32(item[12:])]
			switch typ := le.Uint32(item[8:]); typ {
			case setupE820Ext:
				table = append(table, data...)
			case setupRNGSeed:
				seeds++
				if !bytes.Equal(data, c.seed) {
					t.Error("another seed")
				}
			default:
				t.Errorf("setup_data of type %d", typ)
			}
			next = le.Uint64(item)
		}
		if !bytes.Equal(table, memory.encode()) {
			t.Errorf("%d entries: the kernel would see %d", n, len(table)/e820EntrySize)
		}
		if seeds != 1 {
			t.Errorf("%d seeds", seeds)
		}
	}
}

func TestRunningBootParamsAreRead(t *testing.T) {
	page := make([]byte, bootParamsSize)
	page[5] = 42
	binary.LittleEndian.PutUint64(page[offACPIRSDP:], 1234)
	in, err := parseInherited(page, "/no/efi")
	if err != nil {
		t.Fatal(err)
	}
	if in.screenInfo[5] != 42 || in.acpiRSDP != 1234 || in.efi != nil {
		t.Errorf("%+v", in)
	}
	if _, err := parseInherited(page[:100], "/no/efi"); !errors.Is(err, ErrUnsupportedMachine) {
		t.Error(err)
	}
	page[offCCBlob] = 1
	if _, err := parseInherited(page, "/no/efi"); !errors.Is(err, ErrUnsupportedMachine) {
		t.Errorf("a confidential guest: %v", err)
	}
}

// TestTrampolineKeepsTheBootProtocol reads the machine code back.
func TestTrampolineKeepsTheBootProtocol(t *testing.T) {
	const at, entry, params = 0x123000, 0x1_0000_0b53, 0x124000
	page := trampoline(at, entry, params)
	if len(page) != trampolineSize {
		t.Fatalf("%d bytes", len(page))
	}
	want := []string{
		"cli", "cld",
		"mov rsp, 0x124000",
		"mov rax, 0x123120", "lgdt ptr [rax]",
		"mov eax, 0x18", "mov ds, ax", "mov es, ax", "mov ss, ax", "mov fs, ax", "mov gs, ax",
		"mov rsi, 0x124000",
		"xor ebp, ebp", "xor edi, edi", "xor ebx, ebx",
		"mov rax, 0x100000b53", "push 0x10", "push rax", "ret far",
	}
	pc := 0
	for i, text := range want {
		inst, err := x86asm.Decode(page[pc:], 64)
		if err != nil {
			t.Fatalf("instruction %d at %d: %v", i, pc, err)
		}
		got := x86asm.IntelSyntax(inst, 0, nil)
		if got != text {
			t.Errorf("instruction %d: %q, want %q", i, got, text)
		}
		pc += inst.Len
	}
	if pc > trampolineGDT {
		t.Errorf("code of %d bytes runs into the descriptors", pc)
	}
	le := binary.LittleEndian
	if limit, base := le.Uint16(page[0x120:]), le.Uint64(page[0x122:]); limit != 31 || base != at+0x100 {
		t.Errorf("descriptor table at %#x, limit %d", base, limit)
	}
	if c, d := le.Uint64(page[0x110:]), le.Uint64(page[0x118:]); c != gdtCode64 || d != gdtData {
		t.Errorf("descriptors %#x, %#x", c, d)
	}
}
