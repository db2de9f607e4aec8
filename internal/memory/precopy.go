package memory

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/parallel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/tracee"
)

// Precopy copies the pages of one process into its FOAM while it runs.
//
// The final freeze then copies what was written since, and what was never copied. It does not trust the rounds for anything else: which
// pages there are is asked anew, a page outside of a watched mapping counts as written, and a page that a round failed to
// copy is missing from the record of copied ones.
type Precopy struct {
	pid     int
	tracker tracker
	file    *foam.File
	copied  foam.Extents
	seen    foam.Extents // pages that a round has found; what is not among them cannot be protected against writing

	unwatched []image.Extent    // mappings that Watch is to watch
	listed    []procfs.SMapping // what Unwatched has seen, for Find; nil: nothing, or no longer true

	searched bool           // a round has been
	lately   []foam.Extents // what the last rounds have found written, in outline, the latest first
}

// StartPrecopy begins to watch a frozen process and makes its FOAM file.
func (c *Capture) StartPrecopy(backend Backend, in *tracee.Injection) error {
	tracker, err := newTracker(backend, in)
	if err != nil {
		return err
	}
	p := &Precopy{pid: in.PID(), tracker: tracker}
	if p.file, err = c.newPrecopyFile(foamName(p.pid)); err != nil {
		tracker.close()
		return err
	}
	if c.Precopies == nil {
		c.Precopies = map[int]*Precopy{}
	}
	c.Precopies[p.pid] = p
	return p.watchAll()
}

// newPrecopyFile makes a FOAM for pages that are copied ahead.
func (c *Capture) newPrecopyFile(name string) (*foam.File, error) {
	if c.Fallback {
		return foam.Create(c.Path(name), nil)
	}
	return c.newFile(name, nil)
}

// watchAll begins to watch all mappings that may have pages of the process's own.
func (p *Precopy) watchAll() error {
	maps, err := procfs.ReadMaps(p.pid)
	if err != nil {
		return err
	}
	for _, m := range maps {
		// What the kernel has put there has a name like [vvar].
		if !m.Shared && !strings.HasPrefix(m.Path, "[v") {
			p.unwatched = append(p.unwatched, image.Extent{Start: m.Start, End: m.End})
		}
	}
	return p.Watch()
}

// Unwatched reports whether the process has mappings that Watch would watch. A process that has ended has none.
func (p *Precopy) Unwatched() (bool, error) {
	var err error
	p.listed, err = p.private()
	p.unwatched = p.tracker.unwatched(p.listed)
	return len(p.unwatched) > 0, err
}

// Watch begins to watch what Unwatched has found, as far as that is still so. The process is frozen.
func (p *Precopy) Watch() error {
	maps, err := procfs.ReadMaps(p.pid)
	if err != nil && !procfs.Gone(err) {
		return err
	}
	is := make(map[image.Extent]bool, len(maps))
	for _, m := range maps {
		is[image.Extent{Start: m.Start, End: m.End}] = true
	}
	p.tracker.watch(slices.DeleteFunc(p.unwatched, func(e image.Extent) bool { return !is[e] }))
	p.unwatched, p.listed = nil, nil
	return nil
}

// private lists the mappings that may have pages of the process's own. A process that has ended has none.
func (p *Precopy) private() (private []procfs.SMapping, err error) {
	maps, err := procfs.ReadSMaps(p.pid)
	if procfs.Gone(err) {
		return nil, nil
	}
	for _, m := range maps {
		if mayOwnPages(&m) {
			private = append(private, m)
		}
	}
	return private, err
}

func foamName(pid int) string { return fmt.Sprintf("pages-%d.foam", pid) }

// FrozenOnly reports whether Find needs the process frozen.
func (p *Precopy) FrozenOnly() bool { return p.tracker.frozenOnly() }

// Find returns the pages that were written since the last round, and watches them from now on. A process that has ended has none.
func (p *Precopy) Find() ([]image.Extent, error) {
	private := p.listed
	if p.listed = nil; private == nil {
		var err error
		if private, err = p.private(); err != nil {
			return nil, err
		}
	}
	found, err := p.tracker.next(private, func(e image.Extent) {
		p.copied = p.copied.Minus(foam.Extents{e})
		p.seen = p.seen.Minus(foam.Extents{e})
	})
	if procfs.Gone(err) {
		return nil, nil
	}
	p.seen = p.seen.Add(found...)
	p.remember(found)
	return found, err
}

// mayOwnPages is hasOwnPages by what the text of /proc says.
func mayOwnPages(m *procfs.SMapping) bool {
	return !m.Shared && !m.Has("io") && !m.Has("pf") && !m.Has("dp") && m.Path != "[vsyscall]"
}

// remember keeps in outline what a round has found. The first finds all there is, which tells nothing.
func (p *Precopy) remember(found []image.Extent) {
	if p.searched && len(found) > 0 {
		p.lately = slices.Insert(p.lately, 0, foam.Merged(found...).Coarse(image.HotExtents))
		p.lately = p.lately[:min(len(p.lately), image.HotLists-1)]
	}
	p.searched = true
}

// hot returns what was written last: since the last round, which is what is left for the freeze, and then in the rounds before. What was only read
// is not known: the kernel's record of that (/proc/PID/clear_refs, "1") is by mapping, not by page, and makes the application's next look at each
// page ten times as slow.
func (p *Precopy) hot(left foam.Extents) (lists [][]image.Extent) {
	if len(left) > 0 {
		lists = append(lists, left.Coarse(image.HotExtents))
	}
	for _, found := range p.lately {
		lists = append(lists, found)
	}
	return lists
}

// Copy copies pages that Find has returned, and leaves the processors to the application if that is busy. What is gone or cannot be read by now is left to the freeze.
func (p *Precopy) Copy(pages []image.Extent, moved Moved) (bytes int64, err error) {
	if err := p.file.Grow(pages, pages); err != nil {
		return 0, err
	}
	var mu sync.Mutex
	var copied, missed foam.Extents
	err = parallel.Gently(p.file.Batches(pages, chunk), func(b foam.Batch) error {
		to, err := p.file.View(b)
		if err != nil {
			return err
		}
		defer to.Close()
		all := readRuns(p.pid, b, to.Parts) == nil
		mu.Lock()
		defer mu.Unlock()
		for i, e := range b {
			if all || kernel.ReadMemory(p.pid, e.Start, to.Parts[i]) == nil {
				copied = append(copied, e)
				bytes += int64(e.End - e.Start)
			} else {
				missed = append(missed, e)
			}
		}
		return moved(int64(foam.Extents(b).Total()))
	})
	if err != nil {
		return 0, err
	}
	p.copied = p.copied.Minus(foam.Merged(missed...)).Add(copied...)
	return bytes, nil
}

// Flush makes what was copied durable, so that completing the image in the freeze has only the rest to write.
func (p *Precopy) Flush() error { return p.file.Sync() }

// remaining returns what the freeze has to copy of a process's own pages.
func (p *Precopy) remaining(own ownPages) foam.Extents {
	written := foam.Merged(own.written...)
	return foam.Merged(own.all...).Minus(p.copied).Add(written...)
}

// ForgetEnded removes what was made for processes that are not in the state: they have ended since.
func (c *Capture) ForgetEnded() error {
	live := map[int]bool{}
	for _, p := range c.State.Processes {
		live[p.PID] = p.State != image.Zombie
	}
	ended := map[int]*foam.File{}
	for pid, p := range c.Precopies {
		if !live[pid] {
			p.stop()
			delete(c.Precopies, pid)
			ended[pid] = p.file
		}
	}
	for pid, f := range c.open {
		if !live[pid] {
			f.Close()
			delete(c.open, pid)
			ended[pid] = f
		}
	}
	for pid, f := range ended {
		if f.InFrames() {
			continue
		}
		if err := os.Remove(c.Path(foamName(pid))); err != nil {
			return fmt.Errorf("pages of pid %d, which has ended: %w", pid, err)
		}
	}
	return nil
}

// stop ends the watch. It takes the kernel some ms per GB, so it is done when the application runs again or is gone.
func (p *Precopy) stop() {
	if p.tracker != nil {
		p.tracker.close()
		p.tracker = nil
	}
	p.file.Close()
}
