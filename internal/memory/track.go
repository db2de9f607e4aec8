package memory

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
	"github.com/kup-project/kup/internal/tracee"
)

// Backend is a way to find out which pages of a running process were written.
type Backend string

const (
	// BackendWPAsync: write protection that the kernel takes off by itself (userfaultfd, UFFD_FEATURE_WP_ASYNC) and PAGEMAP_SCAN; both
	// since v6.7.
	BackendWPAsync Backend = "wp-async"
	// BackendSoftDirty: soft-dirty bits of the page tables, where the kernel has CONFIG_MEM_SOFT_DIRTY.
	BackendSoftDirty Backend = "soft-dirty"
)

// ErrNoTracking says that this kernel has no way to find written pages.
var ErrNoTracking = errors.New("this kernel can tell written pages neither by WP_ASYNC (requires >= v6.7) nor by soft-dirty bits (CONFIG_MEM_SOFT_DIRTY)")

// ChooseBackend returns the wanted one, which is refused if it does not work here, or for "" the best that does.
func ChooseBackend(wanted Backend) (Backend, error) {
	works := map[Backend]bool{
		BackendWPAsync: kernel.FeatureWPAsync.Err() == nil && hasPagemapScan(),
		// Where there are guard pages (v6.13), only PAGEMAP_SCAN shows them.
		BackendSoftDirty: hasSoftDirty() && !hasGuardCategory(),
	}
	switch _, known := works[wanted]; {
	case wanted == "" && works[BackendWPAsync]:
		return BackendWPAsync, nil
	case wanted == "" && works[BackendSoftDirty]:
		return BackendSoftDirty, nil
	case wanted == "":
		return "", ErrNoTracking
	case !known:
		return "", fmt.Errorf("there is no way to find written pages called %q, only %s and %s", wanted, BackendWPAsync, BackendSoftDirty)
	case !works[wanted]:
		return "", refuse.Errorf("this kernel cannot find written pages by %s (see kup check); leave the choice to kup", wanted)
	}
	return wanted, nil
}

var hasSoftDirty = sync.OnceValue(func() bool { return kernel.FeatureSoftDirty.Err() == nil })

// tracker watches the own pages of one process.
type tracker interface {
	// unwatched returns mappings that watch is worth being called for.
	unwatched(maps []procfs.SMapping) []image.Extent
	// watch begins to watch mappings of the process, which is frozen: what ends in the middle of a mapping divides it, and mremap(2) of the whole would fail.
	watch(mappings []image.Extent)
	// next returns those pages in the mappings that were written since it was last called, all in the first call, and watches them
	// from now on. A mapping that it did not watch before is passed to fresh first.
	next(maps []procfs.SMapping, fresh func(image.Extent)) ([]image.Extent, error)
	// frozenOnly reports whether next may only be called while the process is frozen.
	frozenOnly() bool
	close()
}

// newTracker begins to track a frozen process by an injection into one of its threads.
func newTracker(backend Backend, in *tracee.Injection) (tracker, error) {
	if backend == BackendSoftDirty {
		return &softDirty{pid: in.PID()}, splitHugePages(in)
	}
	return newWPAsync(in)
}

// splitHugePages has the huge pages of a frozen process mapped as small ones. A huge page has one soft-dirty bit: a write to a part of it would count as one to
// all of it. The kernel splits the mapping of a huge page in the middle of which a mapping ends (mm/huge_memory.c, vma_adjust_trans_huge). Advice that
// concerns core dumps only, given for one page and taken back at once, makes one end there and go on again.
func splitHugePages(in *tracee.Injection) error {
	const hugePage = 2 << 20
	maps, err := procfs.ReadSMaps(in.PID())
	if err != nil {
		return err
	}
	b := tracee.NewBatch(in)
	for i := range maps {
		m := &maps[i]
		if m.Huge == 0 || m.Shared {
			continue
		}
		there, back := kernel.MadvDontDump, kernel.MadvDoDump
		if m.Has("dd") {
			there, back = back, there
		}
		for at := (m.Start + hugePage - 1) &^ (hugePage - 1); at+hugePage <= m.End; at += hugePage {
			b.Call(kernel.SysMadvise, at+kernel.PageSize, kernel.PageSize, there)
			b.Call(kernel.SysMadvise, at+kernel.PageSize, kernel.PageSize, back)
			if b.Full() {
				if err := b.Run(); err != nil {
					return err
				}
			}
		}
	}
	return b.Run()
}

// wpAsync is the tracker by write protection. Its userfaultfd belongs to the process's address space, but only kup holds it: when kup
// ends, however, the kernel takes all protection off.
type wpAsync struct {
	fd      int
	pagemap *os.File
	fresh   foam.Extents          // watched since next was last called
	refused map[image.Extent]bool // mappings that cannot be watched
}

func newWPAsync(in *tracee.Injection) (*wpAsync, error) {
	fd, err := borrowUffd(in)
	if err != nil {
		return nil, fmt.Errorf("pid %d: userfaultfd: %w", in.PID(), err)
	}
	w := &wpAsync{fd: fd, refused: map[image.Extent]bool{}}
	if err := kernel.UffdEnable(fd, kernel.UffdFeatureWPAsync); err != nil {
		w.close()
		return nil, err
	}
	if w.pagemap, err = os.Open(procfs.Path(in.PID(), "pagemap")); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// borrowUffd lets the target open a userfaultfd, takes it, and closes the target's own descriptor. The clean-up that would close it if
// kup died is armed before, with the number to be filled in by the very call that makes it.
func borrowUffd(in *tracee.Injection) (int, error) {
	clean := in.Cleanup()
	clean.Call(kernel.SysClose, -1)
	if err := clean.Run(); err != nil {
		return -1, err
	}
	b := tracee.NewBatch(in)
	uffd := b.Must("open a userfaultfd", kernel.SysUserfaultfd, kernel.OCloExec|kernel.ONonblock|kernel.UffdUserModeOnly)
	uffd.StoreAt(in.CleanupArgument(0, 0))
	if err := b.Run(); err != nil {
		return -1, err
	}
	pidfd, err := kernel.PidfdOpen(in.PID())
	if err != nil {
		return -1, err
	}
	defer kernel.Close(pidfd)
	return kernel.PidfdGetfd(pidfd, int(uffd.Value()))
}

func (w *wpAsync) frozenOnly() bool { return false }

func (w *wpAsync) close() {
	kernel.Close(w.fd)
	if w.pagemap != nil {
		w.pagemap.Close()
	}
}

func (w *wpAsync) unwatched(maps []procfs.SMapping) (all []image.Extent) {
	for i := range maps {
		m := &maps[i]
		if e := (image.Extent{Start: m.Start, End: m.End}); !m.Has("uw") && !w.refused[e] {
			all = append(all, e)
		}
	}
	return all
}

func (w *wpAsync) watch(mappings []image.Extent) {
	for _, e := range mappings {
		if kernel.UffdRegister(w.fd, e.Start, e.End, kernel.UffdRegisterModeWP) != nil {
			w.refused[e] = true // of a kind that cannot be watched: copied whole in the freeze
			continue
		}
		w.fresh = w.fresh.Add(e)
	}
}

// next leaves mappings that are not watched to the next round, or the freeze.
func (w *wpAsync) next(maps []procfs.SMapping, fresh func(image.Extent)) ([]image.Extent, error) {
	var written []image.Extent
	for i := range maps {
		m := &maps[i]
		e := image.Extent{Start: m.Start, End: m.End}
		known := m.Has("uw") && len(w.fresh.Within(e)) == 0
		if !known {
			fresh(e)
		}
		if !m.Has("uw") {
			continue
		}
		scan := ownScan(m.Start, m.End)
		if known {
			scan.All |= kernel.PageIsWritten
		} // else all: mremap(2) takes pages along that are protected from where they were, although it ends the watch
		scan.Return = kernel.PageIsWritten
		scan.Protect = true
		err := kernel.PagemapScan(w.pagemap, scan, func(r kernel.PageRegion) {
			written = appendRun(written, r.Start, r.End)
		})
		if err != nil {
			return nil, err
		}
	}
	w.fresh = nil
	return written, nil
}

// softDirty is the tracker by soft-dirty bits. Reading and clearing them are two steps, so the process is frozen in between.
type softDirty struct {
	pid    int
	places places // of all pages when the bits were cleared
}

func (s *softDirty) unwatched([]procfs.SMapping) []image.Extent { return nil }
func (s *softDirty) watch([]image.Extent)                       {}

func (s *softDirty) frozenOnly() bool { return true }
func (s *softDirty) close()           {}

func (s *softDirty) next(maps []procfs.SMapping, fresh func(image.Extent)) ([]image.Extent, error) {
	f, err := newPageFinder(s.pid)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.readOnly(); err != nil {
		return nil, err
	}
	var now places
	f.before, f.now = &s.places, &now
	var p ownPages
	for i := range maps {
		if err := f.own(maps[i].Start, maps[i].End, nil, &p); err != nil {
			return nil, err
		}
	}
	s.places = now
	const clearSoftDirty = "4" // Documentation/admin-guide/mm/soft-dirty.rst
	return p.written, os.WriteFile(procfs.Path(s.pid, "clear_refs"), []byte(clearSoftDirty), 0)
}
