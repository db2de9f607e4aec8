package kexec

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"os/exec"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Small images made here have the layout of a real kernel: linked at 16 MB, three segments, a gap, and memory without data behind.
const (
	testBase     = 0x1000000
	testInitSize = 0x800000
	testVersion  = "6.99.1-test (someone@example.org) #1 SMP"
)

// testSegment is a PT_LOAD of a test ELF.
type testSegment struct {
	paddr uint64
	data  []byte
	memsz uint64
}

func testSegments() []testSegment {
	return []testSegment{
		{testBase, x86Code(), 0x5000},
		{testBase + 0x200000, bytes.Repeat([]byte("data"), 0x400), 0x1000},
		{testBase + 0x400000, []byte("init"), 0x10000},
	}
}

// x86Code is full of near calls to the same place: what the x86 filter of xz rewrites.
func x86Code() []byte {
	var b []byte
	for len(b) < 0x4000 {
		b = append(b, 0xe8)
		b = binary.LittleEndian.AppendUint32(b, uint32(0x100000-len(b)))
		b = append(b, 0x48, 0x89, 0xc7)
	}
	return b
}

// testELF writes an x86-64 executable of the segments.
func testELF(entry uint64, segments ...testSegment) []byte {
	const headerSize, progSize = 64, 56
	var file bytes.Buffer
	h := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Entry: entry, Phoff: headerSize, Ehsize: headerSize, Phentsize: progSize, Phnum: uint16(len(segments)), Shentsize: 64,
	}
	put := func(v any) {
		if err := binary.Write(&file, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	put(h)
	off := uint64(headerSize + progSize*len(segments))
	for _, s := range segments {
		put(elf.Prog64{Type: uint32(elf.PT_LOAD), Off: off, Vaddr: s.paddr + 0xffffffff80000000, Paddr: s.paddr,
			Filesz: uint64(len(s.data)), Memsz: s.memsz, Align: 0x1000})
		off += uint64(len(s.data))
	}
	for _, s := range segments {
		file.Write(s.data)
	}
	file.WriteString("the relocations that the build appends") // CONFIG_X86_NEED_RELOCS
	return file.Bytes()
}

// testBzImage writes a bzImage with a payload.
func testBzImage(payload []byte) []byte {
	const sects = 4
	code := make([]byte, 0x400)
	code = append(code, payload...)
	code = append(code, make([]byte, -len(code)&15)...)

	file := make([]byte, (sects+1)*sectorSize)
	le := binary.LittleEndian
	file[offSetupSects] = sects
	le.PutUint32(file[offSysSize:], uint32(len(code)/16))
	le.PutUint16(file[offBootFlag:], bootFlag)
	file[offHeaderLength] = 0x6a
	copy(file[offHeaderMagic:], headerMagic)
	le.PutUint16(file[offProtocol:], 0x20f)
	le.PutUint16(file[offKernelVersion:], 0x400)
	copy(file[0x600:], testVersion)
	file[offLoadFlags] = loadedHigh
	le.PutUint32(file[offInitrdAddrMax:], 0x7fffffff)
	le.PutUint32(file[offKernelAlignment:], 0x200000)
	file[offRelocatableKernel] = 1
	le.PutUint16(file[offXLoadFlags:], 0x7f)
	le.PutUint32(file[offCmdLineSize:], 2047)
	le.PutUint32(file[offPayloadOffset:], 0x400)
	le.PutUint32(file[offPayloadLength:], uint32(len(payload)))
	le.PutUint64(file[offPrefAddress:], testBase)
	le.PutUint32(file[offInitSize:], testInitSize)
	return append(file, code...)
}

// appendSize does what the build does with all but gzip: scripts/Makefile.lib, size_append.
func appendSize(packed, data []byte) []byte {
	return binary.LittleEndian.AppendUint32(packed, uint32(len(data)))
}

// packers pack data as the kernel's build does, by name of the compression.
var packers = map[string]func(testing.TB, []byte) []byte{
	"gzip": func(t testing.TB, data []byte) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	},
	"xz": func(t testing.TB, data []byte) []byte {
		// scripts/xz_wrap.sh
		return appendSize(pipe(t, data, "xz", "--check=crc32", "--x86", "--lzma2=dict=32MiB"), data)
	},
	"lz4": func(t testing.TB, data []byte) []byte {
		var b bytes.Buffer
		w := lz4.NewWriter(&b)
		if err := w.Apply(lz4.LegacyOption(true)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return appendSize(b.Bytes(), data)
	},
	"zstd": func(t testing.TB, data []byte) []byte {
		w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		return appendSize(w.EncodeAll(data, nil), data)
	},
}

// pipe returns what a program makes of data.
func pipe(t testing.TB, data []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v (is the package installed?)", name, err)
	}
	return out
}
