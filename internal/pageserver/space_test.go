package pageserver

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// newSpace makes a space of the test's own memory: size bytes of which all is missing, and the contents that belong there.
func newSpace(t *testing.T, size uint64) (s *space, memory, contents []byte) {
	t.Helper()
	return newSpaceIn(t, size, func(all image.Extent) []image.Window { return foam.Plan([]image.Extent{all}) })
}

// newSpaceIn is newSpace with the contents where windows say.
func newSpaceIn(t *testing.T, size uint64, windows func(all image.Extent) []image.Window) (s *space, memory, contents []byte) {
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
	file, err := foam.Create(path, windows(all))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, run := range file.Runs(foam.Extents{all}, 1<<40) {
		mem, err := file.Map(run)
		if err != nil {
			t.Fatal(err)
		}
		copy(mem, contents[run.Start-start:])
		if err := file.Unmap(mem); err != nil {
			t.Fatal(err)
		}
	}
	s = &space{missing: newPieces([]image.Extent{all}), settled: func(uint64) {}}
	if s.source, err = foam.Open(path, file.Describe(foam.Extents{all})); err != nil {
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
	if err := s.put(stretch{{at(300, 1), at(300, 1).Start}}); err != nil { // as if somebody had touched it
		t.Fatal(err)
	}
	s.hot = []pieces{
		newPieces([]image.Extent{at(299, 3), at(400, 2)}),
		newPieces([]image.Extent{at(10, 1), at(401, 2), {Start: start + 2*size, End: start + 3*size}}), // with what is not missing, and what never was
	}
	want := []image.Extent{at(299, 1), at(301, 1), at(400, 2), at(10, 1), at(402, 1), at(0, 10), at(11, 288), at(302, 98)}
	var order []image.Extent
	for len(s.missing) > 0 {
		for _, p := range slices.Concat(s.next()...) {
			order = append(order, p.Extent)
		}
		if err := s.fill(2, s.next(), never); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(order[:len(want)], want) {
		t.Errorf("expected the order %#x, got %#x", want, order)
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
		for range 2 {
			for _, p := range slices.Concat(s.next()...) {
				order = append(order, p.Extent)
				s.missing.remove(p.Extent)
			}
		}
		if want := []image.Extent{ext(73, 74), ext(102, 104), ext(10, 20)}; !slices.Equal(order[:3], want) {
			t.Errorf("expected the order %v, got %v", want, order)
		}
	}
}

func never() bool { return false }

func TestFillStopsWhenSomebodyCalls(t *testing.T) {
	const size = 8 * chunk
	s, memory, contents := newSpace(t, size)
	var asked atomic.Int32
	if err := s.fill(2, s.next(), func() bool { return asked.Add(1) > 3 }); err != nil {
		t.Fatal(err)
	}
	if left := s.missing.total(); left < size-3*chunk || left == size {
		t.Errorf("%d of %d bytes are missing after 3 chunks", left, size)
	}
	for len(s.missing) > 0 {
		if err := s.fill(2, s.next(), never); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(memory, contents) {
		t.Error("the memory is not what was stored")
	}
}

func TestPageThatIsThereStopsTheFillAndStaysMissing(t *testing.T) {
	const size = 8 * chunk
	s, _, _ := newSpace(t, size)
	page := image.Extent{Start: s.missing[0].Start + size/2, End: s.missing[0].Start + size/2 + pageSize}
	if _, err := kernel.UffdZero(s.uffd, page.Start, pageSize); err != nil {
		t.Fatal(err)
	}
	var err error
	for err == nil && len(s.missing) > 0 {
		err = s.fill(2, s.next(), never)
	}
	if err == nil || !strings.Contains(err.Error(), "would be lost") {
		t.Errorf("%v", err)
	}
	if left := s.missing.within(page); left.total() != pageSize {
		t.Errorf("%#x is not missing any more: %v", page, s.missing)
	}
}
