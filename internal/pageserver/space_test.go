package pageserver

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// newSpace makes a space of the test's own memory: size bytes of which all is missing, and the contents that belong there.
func newSpace(t *testing.T, size uint64) (s *space, memory, contents []byte) {
	t.Helper()
	memory, err := kernel.MapAnon(int(size), kernel.ProtRead|kernel.ProtWrite, kernel.MapPrivate)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kernel.Unmap(memory) })
	start := kernel.AddressOf(memory)
	all := image.Extent{Start: start, End: start + size}
	for at := uint64(0); at < size; at += 8 {
		contents = append(contents, byte(at>>12), byte(at>>20), 1, 2, 3, 4, 5, 6)
	}
	path := filepath.Join(t.TempDir(), "pages.foam")
	file, err := foam.Create(path, foam.Plan([]image.Extent{all}))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt(contents, start); err != nil {
		t.Fatal(err)
	}
	s = &space{missing: newPieces([]image.Extent{all}), settled: func(uint64) {}}
	if s.source, err = openSource(path, file.Describe(foam.Extents{all})); err != nil {
		t.Fatal(err)
	}
	if s.uffd, err = kernel.OpenUffd(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kernel.Close(s.uffd) })
	if err := kernel.UffdEnable(s.uffd, 0); err != nil {
		t.Fatal(err)
	}
	if err := kernel.UffdRegister(s.uffd, all.Start, all.End, kernel.UffdRegisterModeMissing); err != nil {
		t.Fatal(err)
	}
	return s, memory, contents
}

func TestHottestPagesAreFilledFirst(t *testing.T) {
	const size = 2 << 20
	s, memory, contents := newSpace(t, size)
	start := s.missing[0].Start
	at := func(page, pages uint64) image.Extent {
		return image.Extent{Start: start + page*pageSize, End: start + (page+pages)*pageSize}
	}
	if err := s.put(piece{at(300, 1), at(300, 1).Start}); err != nil { // as if somebody had touched it
		t.Fatal(err)
	}
	s.hot = []pieces{
		newPieces([]image.Extent{at(299, 3), at(400, 2)}),
		newPieces([]image.Extent{at(10, 1), at(401, 2), {Start: start + 2*size, End: start + 3*size}}), // with what is not missing, and what never was
	}
	want := []image.Extent{at(299, 1), at(301, 1), at(400, 2), at(10, 1), at(402, 1), at(0, 10), at(11, 53), at(64, 64)}
	for i := 0; len(s.missing) > 0; i++ {
		before := slices.Clone(s.missing)
		if err := s.fill(); err != nil {
			t.Fatal(err)
		}
		for _, p := range s.missing {
			before.remove(p.Extent)
		}
		if len(before) != 1 || i < len(want) && before[0].Extent != want[i] {
			t.Fatalf("fill %d: got %#x, expected the order %#x", i, before, want)
		}
	}
	if !bytes.Equal(memory, contents) {
		t.Error("the memory is not what was stored")
	}
}

func TestHotPagesAreKnownWhereTheyMove(t *testing.T) {
	s := &space{settled: func(uint64) {}, missing: pieces{p(10, 20, 10), p(30, 40, 30), p(50, 60, 50), p(70, 80, 70)}}
	s.hot = []pieces{newPieces([]image.Extent{ext(32, 34), ext(52, 54), ext(72, 74)})}
	s.changes = []change{remap(30, 40, 100), unmap(50, 60), drop(72, 73), {event: kernel.UffdEventFork, uffd: 5}}
	children := s.settle()
	if len(children) != 1 {
		t.Fatalf("expected a child, got %v", children)
	}
	for _, s := range []*space{s, children[0]} {
		var order []image.Extent
		for range 3 {
			next := s.next()
			order = append(order, next.Extent)
			s.missing.remove(next.Extent)
		}
		if want := []image.Extent{ext(73, 74), ext(102, 104), ext(10, 20)}; !slices.Equal(order, want) {
			t.Errorf("expected the order %v, got %v", want, order)
		}
	}
}
