package pageserver

import (
	"slices"
	"testing"

	"github.com/kup-project/kup/internal/kernel"
)

func unmap(start, end uint64) change {
	return change{event: kernel.UffdEventUnmap, where: ext(start, end)}
}

func drop(start, end uint64) change {
	return change{event: kernel.UffdEventRemove, where: ext(start, end)}
}

func remap(start, end, to uint64) change {
	return change{event: kernel.UffdEventRemap, where: ext(start, end), to: to}
}

// Two mappings, X at 10-20 and Z at 30-40, which two threads change at once; Y is at 50-60.
func TestChangesAreMadeInTheirTrueOrder(t *testing.T) {
	both := pieces{p(10, 20, 10), p(30, 40, 30)}
	for _, c := range []struct {
		name   string
		read   []change
		now    pieces // is watched afterwards
		expect pieces
	}{
		{"an unmapping is told of after the move to its place", []change{remap(30, 40, 10), unmap(10, 20)},
			pieces{p(10, 20, 0)}, pieces{p(10, 20, 30)}},
		{"an unmapping comes after the move to its place", []change{remap(30, 40, 10), unmap(10, 20)}, nil, nil},
		{"a move is told of after another to its old place", []change{remap(30, 40, 10), remap(10, 20, 50)},
			pieces{p(10, 20, 0), p(50, 60, 0)}, pieces{p(10, 20, 30), p(50, 60, 10)}},
		{"one mapping moves twice", []change{unmap(10, 20), remap(30, 40, 10), remap(10, 20, 50)},
			pieces{p(50, 60, 0)}, pieces{p(50, 60, 30)}},
		{"what is dropped after a move is not what has left", []change{remap(30, 40, 10), drop(10, 20), remap(10, 20, 50)},
			pieces{p(10, 20, 0), p(50, 60, 0)}, pieces{p(50, 60, 10)}},
		{"an unmapping is told of after a move to its place and much else", []change{remap(30, 40, 10), drop(60, 61), drop(61, 62), drop(62, 63),
			drop(63, 64), unmap(64, 65), drop(65, 66), unmap(10, 20)}, pieces{p(10, 20, 0)}, pieces{p(10, 20, 30)}},
		{"no doubt", []change{drop(10, 15), unmap(30, 35)}, pieces{p(10, 20, 0), p(35, 40, 0)}, pieces{p(15, 20, 15), p(35, 40, 35)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			missing := slices.Clone(both)
			for _, change := range bestOrder(c.read, doubtful(c.read), both, c.now) {
				change.apply(&missing)
			}
			if !slices.Equal(missing, c.expect) {
				t.Errorf("expected %v to be missing, got %v", c.expect, missing)
			}
		})
	}
}

func TestOrderIsOnlyInDoubtWhereMovesTouch(t *testing.T) {
	for _, c := range []struct {
		name    string
		changes []change
		doubt   bool
	}{
		{"unmapped and dropped", []change{unmap(10, 20), drop(10, 20)}, false},
		{"moved elsewhere", []change{remap(10, 20, 30), unmap(40, 50)}, false},
		{"moved to where another was unmapped", []change{unmap(25, 35), remap(10, 20, 30)}, true},
	} {
		if got := len(doubtful(c.changes)) > 0; got != c.doubt {
			t.Errorf("%s: doubt %v", c.name, got)
		}
	}
}

func TestWhatMovesIsNoNewsWhereItWas(t *testing.T) {
	s := &space{settled: func(uint64) {}, missing: pieces{p(10, 20, 10), p(30, 40, 30)}}
	// Another mapping has taken the place before the kernel reports that it was left.
	s.changes = []change{remap(10, 20, 50), remap(30, 40, 10), unmap(10, 20), unmap(30, 40)}
	s.settle()
	if want := (pieces{p(10, 20, 30), p(50, 60, 10)}); !slices.Equal(s.missing, want) {
		t.Errorf("expected %v, got %v", want, s.missing)
	}
}

func TestChildHasWhatItMayHaveInherited(t *testing.T) {
	s := &space{settled: func(uint64) {}, missing: pieces{p(10, 20, 10), p(30, 40, 30), p(70, 80, 70)}}
	s.changes = []change{drop(70, 80), remap(10, 20, 50), {event: kernel.UffdEventFork, uffd: 5}, unmap(30, 40), unmap(10, 20)}
	children := s.settle()
	if want := (pieces{p(50, 60, 10)}); !slices.Equal(s.missing, want) {
		t.Errorf("the parent lacks %v, expected %v", s.missing, want)
	}
	if len(children) != 1 || children[0].uffd != 5 {
		t.Fatalf("expected a child, got %v", children)
	}
	if want := (pieces{p(10, 20, 10), p(30, 40, 30), p(50, 60, 10)}); !slices.Equal(children[0].missing, want) {
		t.Errorf("the child lacks %v, expected %v", children[0].missing, want)
	}
}
