package memory

import (
	"cmp"
	"slices"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/pageserver"
	"github.com/kup-project/kup/internal/tracee"
)

// Lazy takes part of the memory of restored processes out of the restore: a page server fills it while they run.
type Lazy struct {
	Spaces []pageserver.Space // with descriptors of ours, until Close
}

// Close closes the descriptors. If no page server has taken them over, what is missing reads as zeros from then on.
func (l *Lazy) Close() {
	for _, s := range l.Spaces {
		kernel.Close(s.Uffd)
	}
	l.Spaces = nil
}

const (
	// A mapping with little in it costs less to fill at once than to watch: stacks of threads, small heaps.
	littleBytes = 64 << 10
	// littleAtAll is how much of one process is filled at once for that reason.
	littleAtAll = 4 << 20
)

// plan divides the stored pages of a process: what is filled at once, and what is left to the page server, mapping by mapping.
func (l *Lazy) plan(p *image.Process) (atOnce foam.Extents, watched []watchedMapping) {
	stored := foam.Extents(p.Memory.FOAM.Extents)
	for i := range p.Memory.VMAs {
		v := &p.Memory.VMAs[i]
		if pages := stored.Within(image.Extent{Start: v.Start, End: v.End}); len(pages) > 0 && canWatch(v) {
			watched = append(watched, watchedMapping{v, pages})
		}
	}
	slices.SortStableFunc(watched, func(a, b watchedMapping) int { return cmp.Compare(a.pages.Total(), b.pages.Total()) })
	budget := uint64(littleAtAll)
	for len(watched) > 0 {
		size := watched[0].pages.Total()
		if size > littleBytes || size > budget {
			break
		}
		budget -= size
		watched = watched[1:]
	}
	// Whoever lists processes reads their arguments, and does not wait for a page server.
	arguments := foam.Merged(pagesOf(p.Memory.ArgStart, p.Memory.EnvEnd))
	var left []image.Extent
	for i := range watched {
		watched[i].pages = watched[i].pages.Minus(arguments)
		left = append(left, watched[i].pages...)
	}
	return stored.Minus(foam.Merged(left...)), watched
}

// AtOnce is how many bytes of contents a restore must copy before the processes can run, even if the rest is left to a page server.
func AtOnce(st *image.State) (bytes uint64) {
	for i := range st.Processes {
		atOnce, _ := (&Lazy{}).plan(&st.Processes[i])
		bytes += atOnce.Total()
	}
	for i := range st.Memories {
		bytes += uint64(st.Memories[i].FOAM.Stored())
	}
	return bytes
}

// watchedMapping is a mapping with the pages that are left to the page server.
type watchedMapping struct {
	*image.VMA
	pages foam.Extents
}

// canWatch reports whether missing pages of a mapping can be left to a page server: userfaultfd knows private anonymous memory only, locked memory
// is there at once, and what a fork wipes would be filled in the child.
func canWatch(v *image.VMA) bool {
	return v.Kind == image.VMAAnon && !v.Shared && !hasFlag(*v, "lo") && !hasFlag(*v, "wf")
}

// pagesOf returns the whole pages that [start, end) touches.
func pagesOf(start, end uint64) image.Extent {
	return image.Extent{Start: start &^ (kernel.PageSize - 1), End: (end + kernel.PageSize - 1) &^ (kernel.PageSize - 1)}
}

// watch opens a userfaultfd in a seed, takes it, and registers the mappings with it.
func (l *Lazy) watch(p *image.Process, s *tracee.Seed, path string, watched []watchedMapping) error {
	fd, err := openUffd(s)
	if err != nil {
		return err
	}
	space := pageserver.Space{PID: p.PID, Uffd: fd, Path: path, FOAM: p.Memory.FOAM, Hot: p.Memory.Hot}
	space.FOAM.Extents = nil
	l.Spaces = append(l.Spaces, space)
	const features = kernel.UffdFeatureEventFork | kernel.UffdFeatureEventRemap | kernel.UffdFeatureEventRemove | kernel.UffdFeatureEventUnmap
	if err := kernel.UffdEnable(fd, features); err != nil {
		return err
	}
	known := &l.Spaces[len(l.Spaces)-1]
	var missing foam.Extents
	slices.SortFunc(watched, func(a, b watchedMapping) int { return cmp.Compare(a.Start, b.Start) })
	for _, w := range watched {
		if err := kernel.UffdRegister(fd, w.Start, w.End, kernel.UffdRegisterModeMissing); err != nil {
			return err
		}
		known.Watched = append(known.Watched, image.Extent{Start: w.Start, End: w.End})
		missing = append(missing, w.pages...)
	}
	known.Missing = byWindow(missing, p.Memory.FOAM.Windows)
	return nil
}

// byWindow cuts extents, in ascending order, where windows end. There may be hundreds of thousands of these.
func byWindow(extents foam.Extents, windows []image.Window) pageserver.Runs {
	all := make(foam.Extents, 0, len(windows))
	for _, w := range windows {
		all = append(all, image.Extent{Start: w.Start, End: w.End})
	}
	return pageserver.Runs(extents.Intersect(all))
}

// openUffd lets a seed open a userfaultfd, takes it, and closes the seed's own descriptor. It stays open when the guard of a page server executes
// another program, and so do those of children.
func openUffd(s *tracee.Seed) (int, error) {
	b := tracee.NewBatch(s)
	uffd := b.Must("open a userfaultfd", kernel.SysUserfaultfd, kernel.ONonblock)
	if err := b.Run(); err != nil {
		return -1, err
	}
	fd, taken := takeDescriptor(s, int(uffd.Value()))
	b.Must("close the userfaultfd", kernel.SysClose, uffd.Value())
	if err := b.Run(); err != nil && taken == nil {
		kernel.Close(fd)
		return -1, err
	}
	return fd, taken
}

// takeDescriptor returns a duplicate of a seed's descriptor.
func takeDescriptor(s *tracee.Seed, theirs int) (int, error) {
	pidfd, err := kernel.PidfdOpen(s.PID())
	if err != nil {
		return -1, err
	}
	defer kernel.Close(pidfd)
	return kernel.PidfdGetfd(pidfd, theirs)
}
