package memory

import (
	"cmp"
	"fmt"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/tracee"
)

// bindFrames gives a seed those stored pages that are in memory which was reserved for it, where they go into private anonymous memory, and returns what is left to be copied.
func bindFrames(p *image.Process, s *tracee.Seed, from *foam.File, stored foam.Extents, moved Moved) (rest foam.Extents, err error) {
	binder := from.Binder()
	if binder == nil {
		return stored, nil
	}
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
		for _, e := range stored.Within(image.Extent{Start: v.Start, End: v.End}) {
			bindings = from.AppendBindings(bindings, e.Start, e.Start, e.End-e.Start)
			bound = append(bound, e)
		}
	}
	pages, err := binder.Bind(pidfd, bindings)
	if err := cmp.Or(err, moved(int64(pages)*kernel.PageSize)); err != nil {
		return nil, fmt.Errorf("pid %d: %w", p.PID, err)
	}
	return stored.Minus(foam.Merged(bound...)), nil
}
