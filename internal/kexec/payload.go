package kexec

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/therootcompany/xz"
)

// errUnknownCompression: the payload may be fine, but only the kernel's own decompressor understands it.
var errUnknownCompression = errors.New("unknown compression of the kernel")

// compression is how a kernel is packed, CONFIG_KERNEL_GZIP and so on.
type compression int

const (
	compressionUnknown compression = iota // also bzip2, lzma, lzo: no distribution uses them any more
	compressionGzip
	compressionXZ
	compressionLZ4
	compressionZstd
)

func (c compression) String() string {
	return [...]string{"unknown", "gzip", "xz", "lz4", "zstd"}[c]
}

// sizeLength is the length of the unpacked size, a little-endian number that ends each payload: it is part of gzip, and the build appends it to
// the others (scripts/Makefile.lib, size_append).
const sizeLength = 4

// lz4LegacyMagic starts a frame of "lz4 -l": blocks of up to lz4LegacyBlock unpacked bytes, each behind its packed length, and no checksum.
const (
	lz4LegacyMagic = 0x184c2102
	lz4LegacyBlock = 8 << 20
	lz4RatioMax    = 255 // one packed byte stands for that many at most
)

// dictionaryMax is more than the build makes a decompressor remember: 128 MiB, with "zstd --ultra -22" and with scripts/xz_wrap.sh.
const dictionaryMax = 256 << 20

// detect recognizes the compression by the first bytes.
func detect(payload []byte) compression {
	for _, known := range []struct {
		magic string
		c     compression
	}{
		{"\x1f\x8b", compressionGzip},
		{"\xfd7zXZ\x00", compressionXZ},
		{"\x02\x21\x4c\x18", compressionLZ4},
		{"\x28\xb5\x2f\xfd", compressionZstd},
	} {
		if bytes.HasPrefix(payload, []byte(known.magic)) {
			return known.c
		}
	}
	return compressionUnknown
}

// unpack returns the vmlinux in a payload. limit is the most that it may unpack to, in bytes.
func unpack(payload []byte, limit uint64) ([]byte, error) {
	c := detect(payload)
	if c == compressionUnknown || len(payload) < sizeLength {
		return nil, errUnknownCompression
	}
	body := payload[:len(payload)-sizeLength]
	size := uint64(binary.LittleEndian.Uint32(payload[len(body):]))
	if size > limit {
		return nil, fmt.Errorf("it claims to unpack to %d bytes, but there is room for %d only", size, limit)
	}
	var out []byte
	var err error
	switch c {
	case compressionGzip:
		out, err = unGzip(payload, size)
	case compressionXZ:
		out, err = unXZ(body, size)
	case compressionLZ4:
		out, err = unLZ4(body, size)
	case compressionZstd:
		out, err = unZstd(body, size)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c, err)
	}
	if uint64(len(out)) != size {
		return nil, fmt.Errorf("%s: it unpacks to %d bytes instead of %d", c, len(out), size)
	}
	return out, nil
}

func unGzip(packed []byte, size uint64) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return readUpTo(r, size)
}

func unXZ(packed []byte, size uint64) ([]byte, error) {
	r, err := xz.NewReader(bytes.NewReader(packed), dictionaryMax)
	if err != nil {
		return nil, err
	}
	return readUpTo(r, size)
}

func unZstd(packed []byte, size uint64) ([]byte, error) {
	r, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxWindow(dictionaryMax), zstd.WithDecoderMaxMemory(kernelImageMax))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readUpTo(r, size)
}

// readUpTo reads to the end of r, but one byte more than size at most. It takes no more memory than that.
func readUpTo(r io.Reader, size uint64) ([]byte, error) {
	out := bytes.NewBuffer(make([]byte, 0, size+1+bytes.MinRead)) // it never grows
	_, err := out.ReadFrom(io.LimitReader(r, int64(size)+1))
	return out.Bytes(), err
}

// unLZ4 unpacks frames of "lz4 -l".
func unLZ4(packed []byte, size uint64) ([]byte, error) {
	if size > lz4RatioMax*uint64(len(packed)) {
		return nil, io.ErrUnexpectedEOF
	}
	out := make([]byte, 0, size)
	for len(packed) > 0 {
		if len(packed) < sizeLength {
			return nil, io.ErrUnexpectedEOF
		}
		n := uint64(binary.LittleEndian.Uint32(packed))
		packed = packed[sizeLength:]
		if n == lz4LegacyMagic {
			continue
		}
		if n > uint64(len(packed)) {
			return nil, io.ErrUnexpectedEOF
		}
		room := min(size-uint64(len(out)), lz4LegacyBlock)
		got, err := lz4.UncompressBlock(packed[:n], out[len(out):uint64(len(out))+room])
		if err != nil {
			return nil, err
		}
		out = out[:len(out)+got]
		packed = packed[n:]
	}
	return out, nil
}
