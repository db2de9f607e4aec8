package kexec

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

// mixed returns n bytes, a part of them incompressible.
func mixed(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b[:n/16] {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestEachCompressionUnpacks(t *testing.T) {
	for name, pack := range packers {
		for _, tt := range []struct {
			name string
			data []byte
		}{
			{"one byte", []byte{42}},
			{"x86 code", x86Code()},
			{"more than an lz4 block", mixed(2*lz4LegacyBlock + 12345)},
			{"exactly an lz4 block", mixed(lz4LegacyBlock)},
		} {
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				packed := pack(t, tt.data)
				if got := detect(packed).String(); got != name {
					t.Errorf("detected as %s", got)
				}
				got, err := unpack(packed, uint64(len(tt.data)))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, tt.data) {
					t.Error("unpacked to something else")
				}
			})
		}
	}
}

// TestPackedByTheToolsOfTheBuild uses the programs and options with which kernels are built.
func TestPackedByTheToolsOfTheBuild(t *testing.T) {
	data := append(x86Code(), mixed(1<<20)...)
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"gzip", []string{"gzip", "-n", "-f", "-9"}},
		{"xz", []string{"xz", "--check=crc32", "--x86", "--lzma2=dict=128MiB"}},
		{"lz4", []string{"lz4", "-l", "-9", "-", "-"}},
		{"zstd", []string{"zstd", "-22", "--ultra"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			packed := pipe(t, data, tt.args[0], tt.args[1:]...)
			if tt.name != "gzip" {
				packed = appendSize(packed, data)
			}
			got, err := unpack(packed, uint64(len(data)))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, data) {
				t.Error("unpacked to something else")
			}
		})
	}
}

func TestDamagedPayloadsAreErrors(t *testing.T) {
	data := append(x86Code(), mixed(1<<16)...)
	limit := uint64(len(data))
	for name, pack := range packers {
		packed := pack(t, data)
		mustFail := func(t *testing.T, damaged []byte, limit uint64) {
			t.Helper()
			if _, err := unpack(damaged, limit); err == nil {
				t.Error("accepted")
			}
		}
		t.Run(name+"/too large", func(t *testing.T) { mustFail(t, packed, limit-1) })
		t.Run(name+"/truncated", func(t *testing.T) {
			for n := 0; n < len(packed); n += 1 + len(packed)/200 {
				mustFail(t, packed[:n], limit)
			}
		})
		t.Run(name+"/size field too small", func(t *testing.T) {
			mustFail(t, append(bytes.Clone(packed[:len(packed)-4]), 1, 0, 0, 0), limit)
		})
		t.Run(name+"/size field too large", func(t *testing.T) {
			mustFail(t, append(bytes.Clone(packed[:len(packed)-4]), 0xff, 0xff, 0xff, 0), 1<<30)
		})
	}
}

func TestUnknownCompressionIsTold(t *testing.T) {
	for _, payload := range []string{"", "BZh91AY", "\x5d\x00\x00\x00", "\x89LZO", "\x1f\x8b"} {
		if _, err := unpack([]byte(payload), 1<<20); !errors.Is(err, errUnknownCompression) {
			t.Errorf("%q: %v", payload, err)
		}
	}
	if s := compressionUnknown.String(); !strings.Contains(s, "unknown") {
		t.Error(s)
	}
}
