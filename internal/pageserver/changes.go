package pageserver

import (
	"slices"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
)

// change is what the kernel has told of an address space, but for faults.
type change struct {
	event uint8
	where image.Extent // what was removed, unmapped, or moved away
	to    uint64       // where it was moved to
	uffd  int          // of a child
}

func newChange(m *kernel.UffdMessage) change {
	c := change{event: m.Event}
	switch m.Event {
	case kernel.UffdEventFork:
		c.uffd = int(uint32(m.Args[0]))
	case kernel.UffdEventRemap:
		c.where, c.to = image.Extent{Start: m.Args[0], End: m.Args[0] + m.Args[2]}, m.Args[1]
	default:
		c.where = image.Extent{Start: m.Args[0], End: m.Args[1]}
	}
	return c
}

func (c *change) moves() bool { return c.event == kernel.UffdEventRemap }

// touches tells whether two changes have addresses in common.
func (c *change) touches(other *change) bool {
	for _, a := range c.ranges() {
		for _, b := range other.ranges() {
			if a.Start < b.End && b.Start < a.End {
				return true
			}
		}
	}
	return false
}

func (c *change) ranges() []image.Extent {
	if c.moves() {
		return []image.Extent{c.where, {Start: c.to, End: c.to + c.where.End - c.where.Start}}
	}
	return []image.Extent{c.where}
}

// apply makes a change in a set of addresses, and returns how many bytes left the set.
func (c *change) apply(to *pieces) (bytes uint64) {
	switch c.event {
	case kernel.UffdEventRemap:
		return to.move(c.where.Start, c.to, c.where.End-c.where.Start)
	case kernel.UffdEventRemove, kernel.UffdEventUnmap:
		return to.remove(c.where)
	}
	return 0
}

// settle makes the changes that were read since the address space last held still, which it does again. It returns the spaces of children
// that were forked meanwhile.
func (s *space) settle() (children []*space) {
	changes := s.inOrder(withoutEchoes(s.changes))
	s.changes = nil
	before := slices.Clone(s.missing)
	moved := slices.ContainsFunc(changes, func(c change) bool { return c.moves() })
	s.doubt = s.doubt || moved
	for i := range changes {
		c := &changes[i]
		s.settled(c.apply(&s.missing))
		for n := range s.hot {
			c.apply(&s.hot[n]) // what is hot stays so where it goes
		}
		switch c.event {
		case kernel.UffdEventFork:
			child := s.fork(c.uffd)
			if moved {
				child.missing.join(before)
			}
			children = append(children, child)
		case kernel.UffdEventRemove:
			before.remove(c.where)
		default:
			c.apply(&s.watched)
		}
	}
	// A child may have been forked before or after a mapping was moved: what it does not have at one of the two places does no harm there.
	for _, child := range children {
		if moved {
			child.missing.join(s.missing)
		}
	}
	return children
}

// fork makes the space of a child that has just been forked: the same is missing there.
func (s *space) fork(uffd int) *space {
	child := &space{uffd: uffd, source: s.source, missing: slices.Clone(s.missing), settled: func(uint64) {}, doubt: true, zeros: s.zeros,
		outlook: s.outlook, binder: s.binder}
	for _, list := range s.hot {
		child.hot = append(child.hot, slices.Clone(list))
	}
	return child
}

// withoutEchoes drops what is no news: what has been moved away is also reported as unmapped.
func withoutEchoes(changes []change) []change {
	out := slices.Clone(changes)
	for i := 0; i < len(out); i++ {
		if !out[i].moves() {
			continue
		}
		echo := slices.IndexFunc(out[i:], func(c change) bool { return c.event == kernel.UffdEventUnmap && c.where == out[i].where })
		if echo > 0 {
			out = slices.Delete(out, i+echo, i+echo+1)
		}
	}
	return out
}

// mostInOrder is of how many changes whose order is in doubt all orders are tried.
const mostInOrder = 6

// inOrder puts changes into the order in which they were made. The kernel tells of a mapping that was moved or unmapped only after it has let
// other threads change mappings again: what they did then, at the same addresses, may be told of first. What is watched in the end shows
// which order was the true one.
func (s *space) inOrder(changes []change) []change {
	doubted := doubtful(changes)
	if s.pid == 0 || len(doubted) == 0 || len(doubted) > mostInOrder {
		return changes
	}
	now, err := watchedNow(s.pid)
	if err != nil {
		return changes // the process has ended
	}
	return bestOrder(changes, doubted, s.watched, now)
}

// doubtful returns the indices of the changes whose order matters and may be another one than that in which they were read: moves, and what touches
// them. A thread that is slow to tell of a change can be overtaken by any number of others, but hardly ever do many of them touch.
func doubtful(changes []change) (doubted []int) {
	for i := range changes {
		for j := range changes {
			if i != j && (changes[i].moves() || changes[j].moves()) && changes[i].touches(&changes[j]) {
				doubted = append(doubted, i)
				break
			}
		}
	}
	return doubted
}

// bestOrder returns the order of changes, of which those in doubt change places with each other, that leads from what was watched to what is watched now, or comes
// nearest to it.
func bestOrder(changes []change, doubted []int, before, now pieces) []change {
	var best []change
	var bestScore int64
	permute(len(doubted), func(order []int) {
		if !possible(changes, doubted, order) {
			return
		}
		candidate := slices.Clone(changes)
		for at, i := range order {
			candidate[doubted[at]] = changes[doubted[i]]
		}
		set := slices.Clone(before)
		for i := range candidate {
			if candidate[i].event != kernel.UffdEventRemove {
				candidate[i].apply(&set)
			}
		}
		// The first order is that in which they were read.
		if score := likeness(set, now); best == nil || score > bestScore {
			bestScore, best = score, candidate
		}
	})
	return best
}

// possible tells whether the changes in doubt may have been made in an order: a removal is told of before it is made, so all that was read before it
// had been made before it.
func possible(changes []change, doubted, order []int) bool {
	for at, i := range order {
		for _, later := range order[at+1:] {
			if later < i && changes[doubted[i]].event == kernel.UffdEventRemove {
				return false
			}
		}
	}
	return true
}

// likeness counts the bytes of a set that are in another one, less those that are not.
func likeness(set, other pieces) (score int64) {
	for _, p := range set {
		common := other.within(p.Extent).total()
		score += 2*int64(common) - int64(p.size())
	}
	return score
}

// permute calls visit with all orders of n things, beginning with the natural one.
func permute(n int, visit func(order []int)) {
	order := make([]int, 0, n)
	used := make([]bool, n)
	var next func()
	next = func() {
		if len(order) == n {
			visit(order)
			return
		}
		for i := range n {
			if used[i] {
				continue
			}
			used[i], order = true, append(order, i)
			next()
			used[i], order = false, order[:len(order)-1]
		}
	}
	next()
}

// watchedNow lists what a userfaultfd watches of a process for missing pages.
func watchedNow(pid int) (pieces, error) {
	maps, err := procfs.ReadSMaps(pid)
	var watched []image.Extent
	for i := range maps {
		if m := &maps[i]; m.Has("um") {
			watched = append(watched, image.Extent{Start: m.Start, End: m.End})
		}
	}
	return newPieces(watched), err
}
