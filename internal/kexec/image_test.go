package kexec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kup-project/kup/internal/vm"
)

// debianKernels gives the real kernels that the set-up fetches: one of each line. They differ in compression.
func debianKernels(t testing.TB) []vm.Kernel {
	t.Helper()
	var all []vm.Kernel
	for _, line := range []string{"6.1", "6.12"} {
		k, err := vm.FindKernel(line)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, k)
	}
	return all
}

func TestDebianKernelsUnpack(t *testing.T) {
	for _, k := range debianKernels(t) {
		t.Run(k.Release, func(t *testing.T) {
			im, err := Open(k.Image)
			if err != nil {
				t.Fatal(err)
			}
			if im.Version != k.Release {
				t.Errorf("version %q, want %q", im.Version, k.Release)
			}
			if !strings.HasPrefix(im.Banner, k.Release+" (debian-kernel@") {
				t.Errorf("banner %q", im.Banner)
			}
			p, err := im.unpacked()
			if err != nil {
				t.Fatal(err)
			}
			if p.route != RouteVmlinux || p.entry >= uint64(len(p.data)) || uint64(len(p.data)) > p.size {
				t.Errorf("route %s, entry %#x, %#x bytes of %#x", p.route, p.entry, len(p.data), p.size)
			}
			if !bytes.Contains(p.data, []byte("Linux version "+k.Release)) {
				t.Error("the unpacked kernel does not contain its version message")
			}
			t.Logf("%s, %d MiB from %d MiB, entry %#x", im.Compression(), len(p.data)>>20, len(im.file)>>20, p.entry)
		})
	}
}

func TestTruncatedDebianKernelIsRefused(t *testing.T) {
	file, err := os.ReadFile(debianKernels(t)[0].Image)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "vmlinuz")
	for _, n := range []int{0, 1, 0x1ff, 0x202, 0x267, 0x268, 0x5000, 1 << 20, len(file) / 2, len(file) - 5000} {
		if err := os.WriteFile(path, file[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); !errors.Is(err, ErrBadKernel) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestDamagedDebianKernelIsRefused(t *testing.T) {
	for _, k := range debianKernels(t) {
		file, err := os.ReadFile(k.Image)
		if err != nil {
			t.Fatal(err)
		}
		// A hole in the middle, such as a full disk or a crash leaves.
		clear(file[len(file)/2:][:64<<10])
		im, err := parseImage(file)
		if err != nil {
			t.Fatalf("%s: the header is whole, but: %v", k.Release, err)
		}
		if _, err := im.unpacked(); !errors.Is(err, ErrBadKernel) {
			t.Errorf("%s: %v", k.Release, err)
		}
	}
}

func TestMissingKernelIsRefusedByName(t *testing.T) {
	_, err := Open("/no/such/vmlinuz")
	if !errors.Is(err, ErrBadKernel) || !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/no/such/vmlinuz") {
		t.Error(err)
	}
}

func TestHeaderErrorsSayWhatIsWrong(t *testing.T) {
	whole := testBzImage(packers["gzip"](t, testELF(testBase, testSegments()...)))
	le := binary.LittleEndian
	for _, tt := range []struct {
		name   string
		damage func([]byte) []byte
		want   string
	}{
		{"not a kernel", func(b []byte) []byte { return bytes.Repeat([]byte("x"), 4096) }, "no bzImage"},
		{"an ELF file", func(b []byte) []byte { return testELF(testBase, testSegments()...) }, "no bzImage"},
		{"old protocol", func(b []byte) []byte { le.PutUint16(b[offProtocol:], 0x204); return b }, "boot protocol 2.04"},
		{"32-bit", func(b []byte) []byte { b[offXLoadFlags] &^= xlfKernel64; return b }, "64-bit entry point"},
		{"zImage", func(b []byte) []byte { b[offLoadFlags] = 0; return b }, "64-bit entry point"},
		{"fixed", func(b []byte) []byte { b[offRelocatableKernel] = 0; return b }, "CONFIG_RELOCATABLE"},
		{"odd alignment", func(b []byte) []byte { le.PutUint32(b[offKernelAlignment:], 0x200001); return b }, "CONFIG_RELOCATABLE"},
		{"truncated", func(b []byte) []byte { return b[:len(b)-16] }, "truncated"},
		{"payload outside", func(b []byte) []byte { le.PutUint32(b[offPayloadLength:], 1<<31); return b }, "outside"},
		{"payload before", func(b []byte) []byte { le.PutUint32(b[offPayloadOffset:], 0xffffffff); return b }, "outside"},
		{"no memory", func(b []byte) []byte { le.PutUint32(b[offInitSize:], 16); return b }, "16 bytes of memory"},
		{"all memory", func(b []byte) []byte { le.PutUint32(b[offInitSize:], 0xffffffff); return b }, "bytes of memory"},
		{"short header", func(b []byte) []byte { b[offHeaderLength] = 0x10; return b }, "ends at 0x212"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseImage(tt.damage(bytes.Clone(whole)))
			if !errors.Is(err, ErrBadKernel) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %q", err, tt.want)
			}
		})
	}
	im, err := parseImage(whole)
	if err != nil {
		t.Fatal(err)
	}
	if im.Version != "6.99.1-test" || im.Banner != testVersion {
		t.Errorf("version %q, banner %q", im.Version, im.Banner)
	}
}

func TestVersionStringOutsideOfTheFileIsNoVersion(t *testing.T) {
	for _, at := range []uint16{0, 0x900, 0xffff} {
		file := testBzImage(packers["gzip"](t, testELF(testBase, testSegments()...)))
		binary.LittleEndian.PutUint16(file[offKernelVersion:], at)
		im, err := parseImage(file)
		if err != nil {
			t.Fatal(err)
		}
		if im.Version != "" {
			t.Errorf("offset %#x: %q", at, im.Version)
		}
	}
}

func TestSegmentsLieAtTheirDistance(t *testing.T) {
	segments := testSegments()
	p, err := layOut(testELF(testBase+0x10, segments...), testInitSize, 0x200000)
	if err != nil {
		t.Fatal(err)
	}
	if p.size != testInitSize || p.entry != 0x10 || p.route != RouteVmlinux {
		t.Errorf("size %#x, entry %#x, route %s", p.size, p.entry, p.route)
	}
	want := make([]byte, 0x400000+len("init"))
	for _, s := range segments {
		copy(want[s.paddr-testBase:], s.data)
	}
	if !bytes.Equal(p.data, want) {
		t.Error("the memory image differs")
	}
}

func TestUnusableELFIsAnError(t *testing.T) {
	good := testSegments()
	badClass := testELF(testBase, good...)
	badClass[4] = 1
	badMachine := testELF(testBase, good...)
	badMachine[18] = 3
	for _, tt := range []struct {
		name string
		file []byte
		want string
	}{
		{"no ELF", []byte("hello"), ""},
		{"32-bit", badClass, ""},
		{"other machine", badMachine, "EM_386"},
		{"empty", testELF(testBase), "nothing to load"},
		{"too large", testELF(testBase, testSegment{testBase, x86Code(), testInitSize + 1}), "setup header says"},
		{"misaligned", testELF(testBase+0x1000, testSegment{testBase + 0x1000, x86Code(), 0x5000}), "no multiple of"},
		{"entry below", testELF(0, good...), "entry point"},
		{"entry in the bss", testELF(testBase+0x405000, good...), "entry point"},
		{"more data than memory", testELF(testBase, testSegment{testBase, x86Code(), 1}), "in the file"},
		{"over the end of the address space", testELF(testBase, testSegment{^uint64(0) - 10, nil, 100}), "segment of"},
		{"truncated", testELF(testBase, good...)[:0x3000], ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := layOut(tt.file, testInitSize, 0x200000); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %q", err, tt.want)
			}
		})
	}
}

func TestUnknownCompressionGoesThroughTheDecompressor(t *testing.T) {
	im, err := parseImage(testBzImage([]byte("BZh91AY-something")))
	if err != nil {
		t.Fatal(err)
	}
	var plan Plan
	p, err := plan.choose(im, "")
	if err != nil {
		t.Fatal(err)
	}
	if p.route != RouteBzImage || p.entry != 0x200 || p.size != testInitSize || len(plan.Notes) != 1 {
		t.Errorf("route %s, entry %#x, size %#x, notes %q", p.route, p.entry, p.size, plan.Notes)
	}
	if _, err := plan.choose(im, RouteVmlinux); !errors.Is(err, errUnknownCompression) {
		t.Errorf("vmlinux was demanded: %v", err)
	}
}

// FuzzImage: whatever the file, there is an error or a program that fits into its memory, and no panic.
func FuzzImage(f *testing.F) {
	vmlinux := testELF(testBase, testSegment{testBase, []byte("code"), 0x1000}, testSegment{testBase + 0x2000, []byte("data"), 0x1000})
	for _, pack := range packers {
		f.Add(testBzImage(pack(f, vmlinux)))
	}
	f.Add(testBzImage([]byte("BZh91AY")))
	f.Fuzz(func(t *testing.T, file []byte) {
		im, err := parseImage(file)
		if err != nil {
			if !errors.Is(err, ErrBadKernel) {
				t.Errorf("no ErrBadKernel: %v", err)
			}
			return
		}
		programs := []*program{im.packed()}
		if p, err := im.unpacked(); err == nil {
			programs = append(programs, p)
		}
		for _, p := range programs {
			if uint64(len(p.data)) > p.size || p.entry >= p.size || p.size%pageSize != 0 {
				t.Errorf("%s: %d bytes, entry %#x, size %#x", p.route, len(p.data), p.entry, p.size)
			}
		}
	})
}
