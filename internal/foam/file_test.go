package foam

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// create makes a FOAM file for ranges.
func create(t *testing.T, ranges ...image.Extent) *File {
	t.Helper()
	f, err := Create(filepath.Join(t.TempDir(), "pages.foam"), Plan(ranges))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// put stores a page.
func put(t *testing.T, f *File, addr uint64, page []byte) {
	t.Helper()
	mem, err := f.Map(image.Extent{Start: addr, End: addr + 4096})
	if err != nil {
		t.Fatal(err)
	}
	copy(mem, page)
	if err := f.Unmap(mem); err != nil {
		t.Fatal(err)
	}
}

func TestKeptRunsAreTheFile(t *testing.T) {
	f := create(t, image.Extent{Start: 0, End: 8 * mib})
	batches := f.Batches(x(0, 1*mib, 3*mib, 4*mib), 2*mib)
	if err := f.Keep(batches, 2*mib); err != nil {
		t.Fatal(err)
	}
	within, err := f.Map(image.Extent{Start: 3*mib + 4096, End: 3*mib + 8192})
	if err != nil {
		t.Fatal(err)
	}
	across, err := f.Map(image.Extent{Start: 2*mib - 4096, End: 2*mib + 4096})
	if err != nil {
		t.Fatal(err)
	}
	copy(within, fill('i'))
	copy(across, fill('a'))
	for _, mem := range [][]byte{within, across} {
		if err := f.Unmap(mem); err != nil {
			t.Error(err)
		}
	}
	again, err := f.Map(image.Extent{Start: 3*mib + 4096, End: 3*mib + 8192})
	if err != nil {
		t.Fatal(err)
	}
	if kernel.AddressOf(again) != kernel.AddressOf(within) {
		t.Error("a kept run was mapped anew")
	}
	for addr, want := range map[uint64][]byte{0: make([]byte, 4096), 2*mib - 4096: fill('a'), 2 * mib: make([]byte, 4096), 3*mib + 4096: fill('i')} {
		got := make([]byte, 4096)
		if err := f.ReadAt(got, addr); err != nil || !bytes.Equal(got, want) {
			t.Errorf("at %#x: %q..., %v", addr, got[:8], err)
		}
	}
}

func fill(b byte) []byte { return bytes.Repeat([]byte{b}, 4096) }

func TestContentsAreReadAsWritten(t *testing.T) {
	const high = 0x7f0000000000
	f := create(t, image.Extent{Start: 0x400000, End: 0x600000}, image.Extent{Start: high, End: high + 4*mib})
	mem, err := f.Map(image.Extent{Start: high + 2*mib, End: high + 2*mib + 8192})
	if err != nil {
		t.Fatal(err)
	}
	copy(mem[4096:], fill('m'))
	if err := f.Unmap(mem); err != nil {
		t.Fatal(err)
	}
	put(t, f, 0x5ff000, fill('w'))
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	desc := f.Describe(x(0x5ff000, 0x600000, high+2*mib+4096, high+2*mib+8192))
	if desc.Name != "pages.foam" || desc.Stored() != 8192 {
		t.Errorf("described as %+v", desc)
	}

	r, err := Open(f.store.(*fileStore).file.Name(), desc)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for addr, want := range map[uint64][]byte{
		0x400000:              make([]byte, 4096),
		0x5ff000:              fill('w'),
		high + 2*mib:          make([]byte, 4096),
		high + 2*mib + 0x1000: fill('m'),
	} {
		got := make([]byte, 4096)
		if err := r.ReadAt(got, addr); err != nil || !bytes.Equal(got, want) {
			t.Errorf("ReadAt %#x: %v, %q", addr, err, got[:4])
		}
		mem, err := r.Map(image.Extent{Start: addr, End: addr + 4096})
		if err != nil || !bytes.Equal(mem, want) {
			t.Fatalf("Map %#x: %v", addr, err)
		}
		if err := r.Unmap(mem); err != nil {
			t.Error(err)
		}
	}
}

func TestAddressesOutsideAreRefused(t *testing.T) {
	f := create(t, image.Extent{Start: 0x400000, End: 0x600000}, image.Extent{Start: 0x7f0000000000, End: 0x7f0000200000})
	for _, e := range []image.Extent{
		{Start: 0x1000, End: 0x2000},
		{Start: 0x3ff000, End: 0x401000},
		{Start: 0x5ff000, End: 0x601000},
		{Start: 0x400000, End: 0x7f0000001000}, // two windows
		{Start: 0x402000, End: 0x401000},       // backwards
	} {
		if _, err := f.Map(e); !errors.Is(err, ErrOutside) {
			t.Errorf("Map %#x: %v", e, err)
		}
		if err := f.Reserve(e); !errors.Is(err, ErrOutside) {
			t.Errorf("Reserve %#x: %v", e, err)
		}
	}
	if err := f.ReadAt(make([]byte, 2), 0x5fffff); !errors.Is(err, ErrOutside) {
		t.Errorf("ReadAt: %v", err)
	}
	for _, e := range []image.Extent{{Start: 0x400000, End: 0x400000}, {Start: 0x400001, End: 0x401000}, {Start: 0x400000, End: 0x400100}} {
		if _, err := f.Map(e); err == nil || !strings.Contains(err.Error(), "whole pages") {
			t.Errorf("Map %#x: %v", e, err)
		}
	}
}

func TestBatchesStoreTheirRunsAndNothingElse(t *testing.T) {
	f := create(t, image.Extent{Start: 0, End: 8 * mib}, image.Extent{Start: 1 << 40, End: 1<<40 + 2*mib})
	runs := x(4096, 8192, 12288, 16384, 3*mib, 5*mib, 1<<40, 1<<40+4096, 1<<40+8192, 1<<40+12288)
	batches := f.Batches(runs, 4*mib)
	var sizes []int
	for i, b := range batches {
		sizes = append(sizes, len(b))
		v, err := f.View(b)
		if err != nil {
			t.Fatal(err)
		}
		for n, part := range v.Parts {
			if uint64(len(part)) != b[n].End-b[n].Start {
				t.Errorf("%#x has %d bytes", b[n], len(part))
			}
			copy(part, fill(byte(i+1)))
		}
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(sizes, []int{3, 1, 2}) {
		t.Errorf("batches of %d runs", sizes)
	}
	got := make([]byte, 4096)
	for addr, want := range map[uint64]byte{0: 0, 4096: 1, 8192: 0, 12288: 1, 3 * mib: 1, 4 * mib: 2, 1 << 40: 3, 1<<40 + 4096: 0, 1<<40 + 8192: 3} {
		if err := f.ReadAt(got, addr); err != nil || got[0] != want {
			t.Errorf("at %#x: %d instead of %d (%v)", addr, got[0], want, err)
		}
	}
}

func TestRunsStayInWindowsAndUnderTheLimit(t *testing.T) {
	f := create(t, image.Extent{Start: 0, End: 2 * mib})
	if err := f.Grow(x(2*mib, 10*mib), nil); err != nil {
		t.Fatal(err)
	}
	got := f.Runs(x(mib, 9*mib, 20*mib, 21*mib), 4*mib)
	want := x(mib, 2*mib, 2*mib, 4*mib, 4*mib, 8*mib, 8*mib, 9*mib)
	if !slices.Equal(got, []image.Extent(want)) {
		t.Errorf("%#x", got)
	}
	for _, e := range got {
		mem, err := f.Map(e)
		if err != nil {
			t.Fatal(err)
		}
		f.Unmap(mem)
	}
}

func TestGrowKeepsContents(t *testing.T) {
	f := create(t, image.Extent{Start: 4 * gib, End: 4*gib + mib})
	put(t, f, 4*gib, fill('a'))
	if err := f.Grow(x(1<<40, 1<<40+mib, 0, 4096), nil); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []uint64{0, 1 << 40} {
		put(t, f, addr, fill('b'))
	}
	got := make([]byte, 4096)
	if err := f.ReadAt(got, 4*gib); err != nil || !bytes.Equal(got, fill('a')) {
		t.Errorf("%v, %q", err, got[:4])
	}
	if r, err := Open(f.store.(*fileStore).file.Name(), f.Describe(nil)); err != nil {
		t.Error(err)
	} else {
		r.Close()
	}
}

func TestSeveralGoroutinesFillOneFile(t *testing.T) {
	const size = 16 * mib
	f := create(t, image.Extent{Start: gib, End: gib + size})
	var wg sync.WaitGroup
	for i, e := range f.Runs(x(gib, gib+size), 2*mib) {
		wg.Go(func() {
			if err := f.Reserve(e); err != nil {
				t.Error(err)
			}
			mem, err := f.Map(e)
			if err != nil {
				t.Error(err)
				return
			}
			for n := range mem {
				mem[n] = byte(i + 1)
			}
			f.Unmap(mem)
		})
	}
	wg.Wait()
	got := make([]byte, size)
	if err := f.ReadAt(got, gib); err != nil {
		t.Fatal(err)
	}
	for n, b := range got {
		if int(b) != n/(2*mib)+1 {
			t.Fatalf("byte %#x is %d", n, b)
		}
	}
}

func TestFileOfAnotherLengthIsRefused(t *testing.T) {
	f := create(t, image.Extent{Start: 0, End: 4 * mib})
	desc := f.Describe(nil)
	if err := os.Truncate(f.store.(*fileStore).file.Name(), 4*mib-1); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(f.store.(*fileStore).file.Name(), desc); err == nil || !strings.Contains(err.Error(), "bytes long") {
		t.Errorf("Open: %v", err)
	}
	if _, err := Create(f.store.(*fileStore).file.Name(), nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("Create over a file: %v", err)
	}
}

func TestFileThatTheFileSystemCannotHoldIsExplained(t *testing.T) {
	err := explainSize("/img/pages.foam", 8*tib, &os.PathError{Op: "truncate", Path: "/img/pages.foam", Err: kernel.EFBIG})
	if !errors.Is(err, kernel.EFBIG) || !strings.Contains(err.Error(), "8192 GiB") || !strings.Contains(err.Error(), "another file system") {
		t.Errorf("%v", err)
	}
}

func TestFailedCreateLeavesNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "huge.foam")
	// An offset that no file can have.
	if _, err := Create(path, []image.Window{{Start: 0, End: 1<<63 + 4096}}); err == nil {
		t.Error("it was created")
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file was left behind: %v", err)
	}
}

func TestCheckSpace(t *testing.T) {
	if err := CheckSpace(t.TempDir(), 4096); err != nil {
		t.Error(err)
	}
	if err := CheckSpace(t.TempDir(), 1<<62); err == nil || !strings.Contains(err.Error(), "make room") {
		t.Errorf("%v", err)
	}
}
