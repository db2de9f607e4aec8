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

func TestKeptRunsAreTheFile(t *testing.T) {
	f := create(t, image.Extent{Start: 0, End: 8 * mib})
	runs := f.Runs(x(0, 1*mib, 3*mib, 4*mib), 4*mib)
	if err := f.Keep(runs); err != nil {
		t.Fatal(err)
	}
	within, err := f.Map(image.Extent{Start: 3*mib + 4096, End: 3*mib + 8192})
	if err != nil {
		t.Fatal(err)
	}
	across, err := f.Map(image.Extent{Start: 1*mib - 4096, End: 1*mib + 4096})
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
	for addr, want := range map[uint64][]byte{0: make([]byte, 4096), 1*mib - 4096: fill('a'), 1 * mib: make([]byte, 4096), 3*mib + 4096: fill('i')} {
		got := make([]byte, 4096)
		if _, err := f.ReadAt(got, addr); err != nil || !bytes.Equal(got, want) {
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
	if _, err := f.WriteAt(fill('w'), 0x5ff000); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	desc := f.Describe(x(0x5ff000, 0x600000, high+2*mib+4096, high+2*mib+8192))
	if desc.Name != "pages.foam" || desc.Stored() != 8192 {
		t.Errorf("described as %+v", desc)
	}

	r, err := Open(f.OS().Name(), desc)
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
		if _, err := r.ReadAt(got, addr); err != nil || !bytes.Equal(got, want) {
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

func TestOffsetsAreCongruentWithAddresses(t *testing.T) {
	f := create(t, image.Extent{Start: 0x555555554000, End: 0x555555655000}, image.Extent{Start: 0x7ffff7dd0000, End: 0x7ffff7ffe000})
	for _, addr := range []uint64{0x555555554000, 0x555555654fff, 0x7ffff7dd0000, 0x7ffff7ffdfff} {
		offset, ok := f.Offset(addr)
		if !ok || uint64(offset)%Align != addr%Align {
			t.Errorf("%#x has offset %#x, %v", addr, offset, ok)
		}
	}
	if _, ok := f.Offset(0x1000); ok {
		t.Error("an address outside has an offset")
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
	if _, err := f.ReadAt(make([]byte, 2), 0x5fffff); !errors.Is(err, ErrOutside) {
		t.Errorf("ReadAt: %v", err)
	}
	if _, err := f.WriteAt(make([]byte, 2), 0x5fffff); !errors.Is(err, ErrOutside) {
		t.Errorf("WriteAt: %v", err)
	}
	for _, e := range []image.Extent{{Start: 0x400000, End: 0x400000}, {Start: 0x400001, End: 0x401000}, {Start: 0x400000, End: 0x400100}} {
		if _, err := f.Map(e); err == nil || !strings.Contains(err.Error(), "whole pages") {
			t.Errorf("Map %#x: %v", e, err)
		}
	}
}

func TestPunchedIsZeroAndTakesNoSpace(t *testing.T) {
	f := create(t, image.Extent{Start: 0, End: 8 * mib}, image.Extent{Start: 1 << 40, End: 1<<40 + 2*mib})
	for addr := uint64(0); addr < 8*mib; addr += 4096 {
		if _, err := f.WriteAt(fill(1), addr); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.WriteAt(fill(2), 1<<40); err != nil {
		t.Fatal(err)
	}
	// From the middle of one window into the next, over addresses that have none.
	if err := f.Punch(image.Extent{Start: mib, End: 1<<40 + 4096}); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4096)
	for addr, want := range map[uint64]byte{0: 1, mib - 4096: 1, mib: 0, 8*mib - 4096: 0, 1 << 40: 0} {
		if _, err := f.ReadAt(got, addr); err != nil || got[0] != want {
			t.Errorf("at %#x: %d instead of %d (%v)", addr, got[0], want, err)
		}
	}
	offset, _ := f.Offset(mib)
	end, _ := f.Offset(8*mib - 1)
	if at, err := kernel.SeekData(f.OS(), offset, end); err != nil || at != end {
		t.Errorf("data at %#x in what was punched (%v)", at, err)
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
	if _, err := f.WriteAt(fill('a'), 4*gib); err != nil {
		t.Fatal(err)
	}
	if err := f.Grow(x(1<<40, 1<<40+mib, 0, 4096), nil); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []uint64{0, 1 << 40} {
		if _, err := f.WriteAt(fill('b'), addr); err != nil {
			t.Fatal(err)
		}
	}
	got := make([]byte, 4096)
	if _, err := f.ReadAt(got, 4*gib); err != nil || !bytes.Equal(got, fill('a')) {
		t.Errorf("%v, %q", err, got[:4])
	}
	if r, err := Open(f.OS().Name(), f.Describe(nil)); err != nil {
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
	if _, err := f.ReadAt(got, gib); err != nil {
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
	if err := os.Truncate(f.OS().Name(), 4*mib-1); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(f.OS().Name(), desc); err == nil || !strings.Contains(err.Error(), "bytes long") {
		t.Errorf("Open: %v", err)
	}
	if _, err := Create(f.OS().Name(), nil); !errors.Is(err, os.ErrExist) {
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
