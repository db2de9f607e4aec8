package frames

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// memoryPool is a pool of frames that lie nowhere in particular.
func memoryPool(n int) (*Pool, map[uint64][]byte) {
	p, all := &Pool{}, map[uint64][]byte{}
	for i := range n {
		f := Frame{Addr: uint64(3*i+1) * Size, Mem: make([]byte, Size)}
		p.free, all[f.Addr] = append(p.free, f), f.Mem
	}
	return p, all
}

func TestParcelIsUnpackedAsPacked(t *testing.T) {
	big := make([]byte, 2*Size+4711)
	rand.Read(big)
	files := fstest.MapFS{"journal.json": {Data: []byte("{}")}, "images/cache/state.cbor": {Data: big}, "images/cache/manifest": {}}
	pool, frames := memoryPool(8)
	p, err := pool.NewParcel()
	if err != nil {
		t.Fatal(err)
	}
	// What was packed before is forgotten.
	for range 3 {
		if err := p.Pack(files); err != nil {
			t.Fatal(err)
		}
	}
	read := func() (io.Reader, error) {
		return readParcel(p.head.Addr, func(addr uint64) ([]byte, error) {
			if mem := frames[addr]; mem != nil {
				return mem, nil
			}
			return nil, ErrGone
		})
	}
	dir := filepath.Join(t.TempDir(), "there")
	archive, err := read()
	if err != nil {
		t.Fatal(err)
	}
	if err := unpack(archive, dir); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			data, _ := os.ReadFile(filepath.Join(dir, name))
			got[name] = len(data)
			if string(data) != string(files[name].Data) {
				t.Errorf("%s is not as it was", name)
			}
		}
		return err
	})
	if diff := cmp.Diff(map[string]int{"journal.json": 2, "images/cache/state.cbor": len(big), "images/cache/manifest": 0}, got); diff != "" {
		t.Error(diff)
	}
	for _, at := range []int{0, 8, 12, 16, 24, parcelHashed} {
		p.head.Mem[at] ^= 0x40
		if _, err := read(); !errors.Is(err, ErrGone) {
			t.Errorf("with byte %d of the head damaged: %v", at, err)
		}
		p.head.Mem[at] ^= 0x40
	}
	p.body[1].Mem[4711]++
	if _, err := read(); !errors.Is(err, ErrGone) {
		t.Errorf("with a damaged file: %v", err)
	}
}

func TestParcelIsTooBig(t *testing.T) {
	pool, _ := memoryPool(3)
	p, err := pool.NewParcel()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Pack(fstest.MapFS{"big": {Data: make([]byte, 2*Size)}}); !errors.Is(err, ErrNoRoom) {
		t.Errorf("%v", err)
	}
	if err := p.Pack(fstest.MapFS{"small": {Data: make([]byte, Size)}}); err != nil {
		t.Errorf("after one that was too big: %v", err)
	}
}
