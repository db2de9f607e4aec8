package frames

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/zeebo/blake3"

	"github.com/kup-project/kup/internal/image"
)

// A parcel is a folder of small files that travels in page frames: what describes the applications, whose memory does. Its first frame is a head with the addresses of the others,
// and the next kernel's command line says where that is.
//
//	bytes      head
//	0-7        parcelMagic
//	8-15       version 1 and number of further frames, 32 bits each, little-endian as all numbers
//	16-23      bytes in these: a tar archive
//	24-55      BLAKE3 of what follows, and of the archive
//	56-        their physical addresses, 64 bits each
const (
	parcelMagic   = "kup-prcl"
	parcelVersion = 1
	parcelHashed  = 56
	parcelMost    = (Size - parcelHashed) / 8 // frames
)

// Parcel is a parcel that is being packed. It belongs to its pool.
type Parcel struct {
	pool *Pool
	head Frame
	body []Frame
	used uint64 // bytes in these
}

// NewParcel takes the first frame of a parcel, ErrNoRoom if there is none.
func (p *Pool) NewParcel() (*Parcel, error) {
	head, err := p.Next()
	return &Parcel{pool: p, head: head}, err
}

// Parameter is the word on a kernel's command line that says where the parcel is.
func (p *Parcel) Parameter() string { return parcelWord(p.head.Addr) }

// Pack puts all files of a folder into the parcel, in place of what it held. ErrNoRoom if the pool is empty.
func (p *Parcel) Pack(files fs.FS) error {
	p.pool.Return(p.body)
	p.body, p.used = nil, 0
	archive := tar.NewWriter(p)
	if err := errors.Join(archive.AddFS(files), archive.Close()); err != nil {
		return err
	}
	head := p.head.Mem[:0]
	head = append(head, parcelMagic...)
	head = binary.LittleEndian.AppendUint32(head, parcelVersion)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(p.body)))
	head = binary.LittleEndian.AppendUint64(head, p.used)
	head = head[:parcelHashed]
	for _, f := range p.body {
		head = binary.LittleEndian.AppendUint64(head, f.Addr)
	}
	hash := blake3.New()
	hash.Write(head[parcelHashed:])
	for i, f := range p.body {
		hash.Write(f.Mem[:min(Size, p.used-uint64(i)*Size)])
	}
	hash.Sum(head[24:24])
	return nil
}

// Write is for the archive.
func (p *Parcel) Write(data []byte) (n int, err error) {
	for n < len(data) {
		if p.used == uint64(len(p.body))*Size {
			if len(p.body) == parcelMost {
				return n, ErrNoRoom
			}
			f, err := p.pool.Next()
			if err != nil {
				return n, err
			}
			p.body = append(p.body, f)
		}
		some := copy(p.body[len(p.body)-1].Mem[p.used%Size:], data[n:])
		n, p.used = n+some, p.used+uint64(some)
	}
	return n, nil
}

// ErrNoParcel says that no parcel was sent to the running kernel.
var ErrNoParcel = errors.New("nothing was sent in page frames")

// Receive unpacks the parcel that the running kernel was told of into a folder. It is ErrNoParcel, ErrGone if what is there is no whole parcel, or neither.
func Receive(dir string) error {
	at, err := toldParcel()
	if err != nil {
		return err
	}
	memory, err := OpenMemory()
	if err != nil {
		return err
	}
	defer memory.Close()
	archive, err := readParcel(at, func(addr uint64) ([]byte, error) {
		if err := CheckKept([]image.Extent{{Start: addr, End: addr + Size}}); err != nil {
			return nil, err
		}
		return memory.At(addr, Size)
	})
	if err != nil {
		return err
	}
	return unpack(archive, dir)
}

// readParcel returns the archive of a parcel. ErrGone if it is damaged.
func readParcel(at uint64, frame func(addr uint64) ([]byte, error)) (io.Reader, error) {
	head, err := frame(at)
	if err != nil {
		return nil, err
	}
	count, size := uint64(binary.LittleEndian.Uint32(head[12:])), binary.LittleEndian.Uint64(head[16:])
	if string(head[:8]) != parcelMagic || binary.LittleEndian.Uint32(head[8:]) != parcelVersion || count > parcelMost || size > count*Size {
		return nil, fmt.Errorf("%w: what was sent in the page frame %#x has been overwritten", ErrGone, at)
	}
	addresses := head[parcelHashed : parcelHashed+8*count]
	hash := blake3.New()
	hash.Write(addresses)
	var parts []io.Reader
	for left := size; len(addresses) > 0; addresses = addresses[8:] {
		part, err := frame(binary.LittleEndian.Uint64(addresses))
		if err != nil {
			return nil, err
		}
		part = part[:min(Size, left)]
		left -= uint64(len(part))
		hash.Write(part)
		parts = append(parts, bytes.NewReader(part))
	}
	if !bytes.Equal(hash.Sum(nil), head[24:parcelHashed]) {
		return nil, fmt.Errorf("%w: what was sent is damaged", ErrGone)
	}
	return io.MultiReader(parts...), nil
}

// unpack writes the files of an archive into a folder, for root alone.
func unpack(archive io.Reader, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for r := tar.NewReader(archive); ; {
		file, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := unpackOne(root, file, r); err != nil {
			return fmt.Errorf("%s: %w", path.Join(dir, file.Name), err)
		}
	}
}

func unpackOne(root *os.Root, file *tar.Header, content io.Reader) error {
	name := path.Clean(file.Name)
	if file.Typeflag == tar.TypeDir {
		return root.MkdirAll(name, 0o700)
	}
	if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}
