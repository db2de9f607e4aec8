package memory

import (
	"fmt"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/tracee"
)

// bindFrames gives a seed those pages that are in memory which was reserved for it, where they go into private anonymous memory, and returns what is left to be copied.
func bindFrames(p *image.Process, s *tracee.Seed, from image.FOAM, moved func(int64)) (rest foam.Extents, err error) {
	rest = from.Extents
	reserved, err := frames.Reserved()
	if err != nil || len(reserved) == 0 {
		return rest, err
	}
	binder, err := frames.OpenBinder()
	if err != nil {
		return nil, err
	}
	defer binder.Close()
	pidfd, err := kernel.PidfdOpen(s.PID())
	if err != nil {
		return nil, err
	}
	defer kernel.Close(pidfd)
	var bindings []frames.Binding
	var bound []image.Extent
	for i := range p.Memory.VMAs {
		v := &p.Memory.VMAs[i]
		if v.Kind != image.VMAAnon || v.Shared {
			continue
		}
		for _, e := range rest.Within(image.Extent{Start: v.Start, End: v.End}) {
			bindings = appendBindings(bindings, from.Windows, e)
			bound = append(bound, e)
		}
	}
	pages, err := binder.Bind(pidfd, bindings)
	if err != nil {
		return nil, fmt.Errorf("pid %d: %w", p.PID, err)
	}
	moved(int64(pages) * kernel.PageSize)
	return rest.Minus(foam.Merged(bound...)), nil
}

// appendBindings adds where the pages of an extent are, which may lie in several windows.
func appendBindings(list []frames.Binding, windows []image.Window, e image.Extent) []frames.Binding {
	foam := image.FOAM{Windows: windows}
	for e.Start < e.End {
		w, ok := foam.Window(e.Start)
		if !ok {
			return list // Validate has seen to it that there is one
		}
		size := min(e.End, w.End) - e.Start
		list = append(list, frames.Binding{Address: e.Start, Start: w.Offset + (e.Start - w.Start), Length: size})
		e.Start += size
	}
	return list
}
