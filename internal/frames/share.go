package frames

import (
	"cmp"
	"slices"
)

// claim is a run of a process that others may have, too.
type claim struct {
	process int // index
	Run
}

// holding is the same frames in the hands of one or several.
type holding struct {
	claims []claim // all of the same frames and kind
}

// shareOut finds out who has which frames: it returns them by number, each once. The claims are by process, and by address.
func shareOut(claims []claim) []holding {
	sorted := byFrame(claims)
	all := make([]holding, 0, len(sorted)/2)
	for len(sorted) > 0 {
		n, alike := overlapping(sorted)
		if alike {
			all = append(all, holding{sorted[:n:n]})
		} else {
			all = append(all, apart(sorted[:n])...)
		}
		sorted = sorted[n:]
	}
	return all
}

// byFrame returns claims by frame, and where they are equal in the order they had.
func byFrame(claims []claim) []claim {
	type key struct {
		frame uint64
		index int
	}
	keys := make([]key, len(claims))
	for i, c := range claims {
		keys[i] = key{c.Frame, i}
	}
	slices.SortFunc(keys, func(a, b key) int {
		if a.frame != b.frame {
			return cmp.Compare(a.frame, b.frame)
		}
		return a.index - b.index
	})
	sorted := make([]claim, len(claims))
	for i, k := range keys {
		sorted[i] = claims[k.index]
	}
	return sorted
}

// overlapping is how many of the first claims hang together, by frames that they have in common, and whether they are all for the same ones.
func overlapping(sorted []claim) (n int, alike bool) {
	first := sorted[0]
	n, alike = 1, true
	for end := first.Frame + first.Count; n < len(sorted) && sorted[n].Frame < end; n++ {
		c := sorted[n]
		alike = alike && c.Frame == first.Frame && c.Count == first.Count
		end = max(end, c.Frame+c.Count)
	}
	return n, alike
}

// apart cuts claims into pieces, so that what some have in common is a holding of theirs.
func apart(claims []claim) (all []holding) {
	pieces := byFrame(atCuts(claims))
	for len(pieces) > 0 {
		n, _ := overlapping(pieces)
		all = append(all, holding{pieces[:n:n]})
		pieces = pieces[n:]
	}
	return all
}

// atCuts splits claims wherever one begins or ends, so that any two pieces have either all frames in common or none.
func atCuts(claims []claim) (pieces []claim) {
	var cuts []uint64
	for _, c := range claims {
		cuts = append(cuts, c.Frame, c.Frame+c.Count)
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	for _, c := range claims {
		i, _ := slices.BinarySearch(cuts, c.Frame)
		for end := c.Frame + c.Count; cuts[i] < end; i++ {
			pieces = append(pieces, claim{c.process, c.slice(cuts[i]-c.Frame, cuts[i+1]-cuts[i], Small)})
		}
	}
	return pieces
}

// run is the frames of h, where the first has them.
func (h holding) run() Run { return h.claims[0].Run }

// part is so many pages of h from the one with number skip on.
func (h holding) part(skip, count uint64, k Kind) holding {
	var part holding
	for _, c := range h.claims {
		part.claims = append(part.claims, claim{c.process, c.slice(skip, count, k)})
	}
	return part
}

// byKind splits h like appendByKind. There are huge pages only where all claims can have them.
func (h holding) byKind(kindOf func(frame uint64) (Kind, error)) (parts []holding, err error) {
	whole := h.run()
	for _, c := range h.claims {
		if c.Addr%Size != whole.Addr%Size {
			return []holding{h}, nil
		}
	}
	runs, err := appendByKind(nil, whole, kindOf)
	if len(runs) == 1 && runs[0].Kind == Small {
		return []holding{h}, err
	}
	for _, r := range runs {
		parts = append(parts, h.part(r.Frame-whole.Frame, r.Count, r.Kind))
	}
	return parts, err
}

func (h holding) shared(processes []Process) Shared {
	r := h.run()
	s := Shared{Frame: r.Frame, Count: r.Count, Kind: r.Kind}
	for _, c := range h.claims {
		s.Places = append(s.Places, Place{processes[c.process].PID, c.Addr})
	}
	return s
}
