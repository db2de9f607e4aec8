package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/memory"
	"github.com/kup-project/kup/internal/netlock"
	"github.com/kup-project/kup/internal/object"
	"github.com/kup-project/kup/internal/pageserver"
	"github.com/kup-project/kup/internal/report"
	"github.com/kup-project/kup/internal/tracee"
)

// Options says what to restore.
type Options struct {
	Dir string // of the image
	// Image is the same, if it was opened already; nil: Run opens it. It saves time on demand, when contents are not verified anyway.
	Image *image.Image
	// OnDemand lets the processes run as soon as their mappings exist. A page server fills them meanwhile; page contents are not verified before.
	OnDemand bool
	Fallback bool // take memory from files even if page frames have it, too; see image.Memory
	// Progress is told of steps and how far they are, in bytes, by the goroutine of Run and others. May be nil.
	Progress func(step string, done, total int64)
}

// Report is what a restore did.
type Report struct {
	Roots []int `json:"roots"` // processes that have no parent in the application
	Bytes int64 `json:"bytes"` // of page contents brought back
	// Pages is nil if all memory was there when the processes began to run.
	Pages *Pages          `json:"pages,omitempty"`
	Total report.Duration `json:"total_ms"` // until the processes run
	Steps report.Steps    `json:"steps"`
}

// Pages is who fills memory while the processes run.
type Pages struct {
	Server int   `json:"server"` // process ID
	Left   int64 `json:"left"`   // bytes of Bytes that were missing when the processes began to run
}

// Run restores the processes of an image with their old IDs and returns when they run. After an error nothing of them is left.
// Errors match image.ErrNotAcceptable, ErrConflict or neither.
func Run(ctx context.Context, o Options) (*Report, error) {
	tracer := tracee.New()
	defer tracer.Close()
	tracer.Hasten()
	defer tracer.Relax()
	r := &restorer{options: o, tracer: tracer, report: &Report{}, started: time.Now()}
	if r.options.Progress == nil {
		r.options.Progress = func(string, int64, int64) {}
	}
	err := r.run(ctx)
	if err != nil {
		r.undo()
	}
	r.close()
	r.report.Total = report.Duration(time.Since(r.started))
	return r.report, err
}

// restorer is one restore at work.
type restorer struct {
	options Options
	tracer  *tracee.Tracer
	report  *Report
	started time.Time

	image   *image.Image
	state   *image.State
	plan    *plan
	memory  memory.Rebuild
	objects object.Rebuild
	tree    tree
	threads map[int][]*tracee.Seed // by process ID, the leader first
	pages   *pageserver.Server     // nil unless on demand
	locked  bool                   // we installed the network lock
	moved   memory.Moved
}

// run is the walk: load, plan, build, resume.
func (r *restorer) run(ctx context.Context) error {
	steps := []struct {
		name string
		do   func() error
	}{
		{"load", func() error { return r.load(ctx) }},
		{"plan", r.planAll},
		{"network lock", r.lockNetwork},
		{"shared memory", func() error { return r.memory.CreateShared(r.moved) }},
		{"objects", r.createObjects},
		{"processes", r.bearAll},
		{"contents", r.buildAll},
		{"connections", func() error { return r.objects.Connect(r.tree.seeds) }},
		{"page server", r.servePages},
		{"threads", r.threadsAll},
		{"signal owners", func() error { return r.objects.SetOwners(r.tree.seeds) }},
		{"resume", r.resume},
	}
	for _, step := range steps {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		r.options.Progress(step.name, 0, 0)
		if err := r.report.Steps.Do(step.name, step.do); err != nil {
			return err
		}
	}
	return nil
}

// load reads and verifies the image, but for the private memory of processes, which is read only once: when it is copied.
func (r *restorer) load(ctx context.Context) error {
	var checks []image.Option
	if r.options.OnDemand {
		if err := r.startPages(); err != nil {
			return err
		}
	} else {
		checks = append(checks, image.PagesLater(), image.WithContents(func(done, total int64) { r.options.Progress("verify", done, total) }))
	}
	img := r.options.Image
	if img == nil || !r.options.OnDemand {
		var err error
		if img, err = image.Open(r.options.Dir, checks...); err != nil {
			return err
		}
	}
	if err := r.fallBack(img); err != nil {
		return err
	}
	r.image, r.state = img, img.State
	r.memory = memory.Rebuild{State: r.state, Image: img, Lazy: r.memory.Lazy}
	r.objects = object.Rebuild{State: r.state, Dir: img.Dir}
	r.countBytes(ctx)
	return nil
}

// fallBack makes the image one without page frames, if these are not to be used, or are gone and there are files instead.
func (r *restorer) fallBack(img *image.Image) error {
	gone := frames.CheckKept(img.State.Physical())
	switch {
	case !r.options.Fallback && gone == nil:
		return nil
	case img.State.HasFallback():
		img.State.UseFallback()
		return nil
	}
	return cmp.Or(gone, fmt.Errorf("image %s has memory in page frames only", img.Dir))
}

// planAll finds out whether the restore can succeed, before anything is made.
func (r *restorer) planAll() (err error) {
	// What it starts later must not get IDs that a system which has just booted uses itself: another restore may find them taken.
	if err := kernel.ReserveIDs(r.state.HighestID()); err != nil {
		return err
	}
	if r.plan, err = newPlan(r.state); err != nil {
		return err
	}
	if err := checkIDs(r.state, r.plan); err != nil {
		return err
	}
	return r.memory.Prepare()
}

// lockNetwork keeps the network from answering for connections that do not exist yet. A checkpoint that ended the application has left such
// a lock; without it (another boot, a second restore) we make one.
func (r *restorer) lockNetwork() error {
	if r.state.NetLock == "" {
		return nil
	}
	exists, err := netlock.Exists(r.state.NetLock)
	if err != nil || exists {
		return err
	}
	if err := netlock.Lock(r.state.NetLock, netlock.Endpoints(r.state)); err != nil {
		return err
	}
	r.locked = true
	return nil
}

func (r *restorer) createObjects() error {
	r.objects.SharedMemory = r.memory.Shared
	err := r.objects.Create()
	if errors.Is(err, object.ErrConflict) {
		return conflict{err}
	}
	return err
}

// bearAll starts the nursery, in the application's own time, and from it the processes.
func (r *restorer) bearAll() error {
	hole, err := memory.Hole(r.state)
	if err != nil {
		return err
	}
	nursery, err := r.tracer.NewSeed(hole)
	if err != nil {
		return err
	}
	r.tree = tree{plan: r.plan, nursery: nursery, seeds: map[int]*tracee.Seed{}}
	if err := r.memory.Strip(nursery, hole); err != nil {
		return err
	}
	if err := enterTime(r.state, nursery); err != nil {
		return err
	}
	if err := r.tree.birth(); err != nil {
		return err
	}
	for _, root := range r.plan.roots {
		r.report.Roots = append(r.report.Roots, root.process.PID)
	}
	return nil
}

// close lets go of everything that was only needed to build.
func (r *restorer) close() {
	if r.tree.nursery != nil {
		r.tree.nursery.Kill()
	}
	r.releasePages()
	r.objects.Close()
	r.memory.Close()
}

// undo ends what was built, and leaves the network as it was found.
func (r *restorer) undo() {
	for _, seed := range r.tree.seeds {
		seed.Kill()
	}
	for _, s := range r.tree.stand {
		s.seed.Kill()
	}
	if r.locked {
		if err := netlock.Unlock(r.state.NetLock); err != nil {
			r.options.Progress("the network lock "+r.state.NetLock+" could not be removed: "+err.Error(), 0, 0)
		}
	}
	r.memory.Undo()
}

func (r *restorer) countBytes(ctx context.Context) {
	total := int64(0)
	for _, p := range r.state.Processes {
		total += p.Memory.FOAM.Stored()
	}
	for _, m := range r.state.Memories {
		total += m.FOAM.Stored()
	}
	r.report.Bytes = total
	r.moved = memory.CountMoved(ctx, func(done int64) { r.options.Progress("contents", done, total) })
}

// live calls do for every process that is not a zombie.
func (r *restorer) live(do func(p *image.Process, s *tracee.Seed) error) error {
	for i := range r.state.Processes {
		p := &r.state.Processes[i]
		seed, ok := r.tree.seeds[p.PID]
		if !ok {
			continue
		}
		if err := do(p, seed); errors.Is(err, image.ErrNotAcceptable) {
			return err // is about the image, not about the process
		} else if err != nil {
			return fmt.Errorf("restore pid %d (%s): %w", p.PID, p.Comm, err)
		}
	}
	return nil
}
