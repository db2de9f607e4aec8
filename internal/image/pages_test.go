package image

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"testing"
)

// readAll returns what ReadPages hands out, by address.
func readAll(img *Image) (map[uint64]byte, error) {
	var mu sync.Mutex
	got := map[uint64]byte{}
	return got, img.ReadPages(&img.State.Processes[0].Memory.FOAM, func(at uint64, pages []byte) error {
		mu.Lock()
		defer mu.Unlock()
		for i, b := range pages {
			got[at+uint64(i)] = b
		}
		return nil
	})
}

func TestPagesAreReadWhereTheyWere(t *testing.T) {
	for name, sealed := range map[string]bool{"sealed": true, "not sealed": false} {
		img, err := Open(write(t, minimal(), sealed), WithContents(nil), PagesLater())
		if err != nil {
			t.Fatal(err)
		}
		got, err := readAll(img)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		foam := img.State.Processes[0].Memory.FOAM
		if int64(len(got)) != foam.Stored() {
			t.Errorf("%s: %d bytes of %d", name, len(got), foam.Stored())
		}
		file, err := os.ReadFile(img.Path(foam.Name))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range foam.Extents {
			for at := e.Start; at < e.End; at++ {
				if offset, _ := foam.Offset(at); got[at] != file[offset] {
					t.Fatalf("%s: %#x is %#x instead of %#x", name, at, got[at], file[offset])
				}
			}
		}
	}
}

func TestDamageToThePagesIsFoundWhenTheyAreRead(t *testing.T) {
	img, err := Open(write(t, minimal(), true), WithContents(nil), PagesLater())
	if err != nil {
		t.Fatal(err)
	}
	foam := img.State.Processes[0].Memory.FOAM
	f, err := os.OpenFile(img.Path(foam.Name), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, r := range foam.runs() {
		for _, offset := range []int64{int64(r.Start), int64(r.End - 1)} {
			if err := flipAt(f, offset); err != nil {
				t.Fatal(err)
			}
			later, err := Open(img.Dir, WithContents(nil), PagesLater())
			if err != nil {
				t.Fatal(err)
			}
			_, found := readAll(later)
			if verified := Verify(img.Dir, nil); !errors.Is(found, ErrCorrupt) || found.Error() != verified.Error() {
				t.Errorf("flip at %#x: %v, where Verify says %v", offset, found, verified)
			}
			if err := flipAt(f, offset); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := f.Truncate(1); err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(img); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a file that was cut off: %v", err)
	}
}

func TestErrorsOfWhoTakesPagesAreHisOwn(t *testing.T) {
	img, err := Open(write(t, minimal(), true), WithContents(nil), PagesLater())
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("no room")
	err = img.ReadPages(&img.State.Processes[0].Memory.FOAM, func(uint64, []byte) error { return full })
	if err != full {
		t.Errorf("%v", err)
	}
}

func TestDamageToSharedMemoryIsFoundByOpen(t *testing.T) {
	st := minimal()
	st.Memories = []SharedMem{{ID: 1, Kind: SharedMemfd, Name: "m", Size: 0x1000, FOAM: FOAM{
		Name: "shared-1.foam", Windows: []Window{{0, 0x200000, 0}}, Extents: []Extent{{0, 0x1000}}}}}
	dir := write(t, st, true)
	path := dir + "/shared-1.foam"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.Clone(data)
	data[7] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, WithContents(nil), PagesLater()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v", err)
	}
}
