package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/memory"
	"github.com/kup-project/kup/internal/netlock"
	"github.com/kup-project/kup/internal/object"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
	"github.com/kup-project/kup/internal/report"
	"github.com/kup-project/kup/internal/tracee"
)

// Options says what to checkpoint, and where to.
type Options struct {
	Root         int             // the process whose tree is the application
	Dir          string          // of the image; its parent must exist
	LeaveRunning bool            // let the application go on, instead of ending it when the image is complete
	Tool         string          // version of this program, for the manifest
	Precopy      *PrecopyOptions // copy memory before the freeze; nil: only in it
	Fork         bool            // copy memory after the freeze, from copies that the processes make by fork(2); with LeaveRunning, without Precopy
	Frames       *frames.Pool    // where memory goes instead of into files of the image: then the image is of use for the next kernel only; may be nil
	InPlace      *frames.InPlace // with Frames: lets private memory stay where it is; may be nil
	Fallback     bool            // with Frames: keep memory in files of the image, too
	Paranoid     bool            // compare every page with its copy before the application runs on or is ended; with Frames, have the restore do that, too
	// Progress is told of steps and how far they are, in bytes, by the goroutine of Run and others. May be nil.
	Progress func(step string, done, total int64)
}

// Report is what a checkpoint did. Rounds of pre-copy and their stops do not count as frozen.
type Report struct {
	Dir       string          `json:"dir"`
	Processes int             `json:"processes"`
	Threads   int             `json:"threads"`
	Bytes     int64           `json:"bytes"`                    // of page contents stored
	InPlace   int64           `json:"bytes_in_place,omitempty"` // of these, what was not copied: it stays in its page frames
	Skipped   int64           `json:"bytes_skipped"`            // of private mappings not stored: zeros, or unchanged since they came from a file
	Frozen    report.Duration `json:"frozen_ms"`                // from the first process that stopped to the last that ran again or was ended
	Total     report.Duration `json:"total_ms"`
	Steps     report.Steps    `json:"steps"`
	// Precopy is nil if all memory was copied in the freeze.
	Precopy *PrecopyReport `json:"precopy,omitempty"`
	// Fork is nil unless memory was copied after the freeze.
	Fork *ForkReport `json:"fork,omitempty"`
}

// Session is one checkpoint at work. Its methods are called in the order in which they stand here, by the goroutine that made the
// tracer; after an error, Abort.
type Session struct {
	options Options
	tracer  *tracee.Tracer
	report  Report
	began   time.Time

	writer     *image.Writer
	state      *image.State
	frozen     *tracee.Frozen
	injections map[int]*tracee.Injection // into the first thread of each live process
	memory     memory.Capture
	holders    map[int]*tracee.Holder // of memory that is copied after the freeze, by process ID
	objects    *object.Capture
	hush       object.Hush        // until objects are captured
	requests   *netlock.Tentative // keeps requests from MPTCP sockets while the application is frozen; may be nil
}

// leaderArea is the least size of the scratch memory in the first thread of a process, bytes, and descriptorArea what each descriptor
// adds: half of it is for taking back what a capture does to the object.
const (
	leaderArea     = 1 << 20
	descriptorArea = 640
)

func leaderRoom(pid int) (int, error) {
	fds, err := procfs.FDs(pid)
	return max(leaderArea, descriptorArea*len(fds)), err
}

// threadArea is the same for other threads, which are asked a few questions.
const threadArea = 4 << 10

// Prepare finds out whether the application can be checkpointed, without touching it, and begins the image. Refusals match
// refuse.ErrRefused.
func Prepare(tracer *tracee.Tracer, o Options) (*Session, error) {
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	if err := o.checkFork(); err != nil {
		return nil, err
	}
	s := &Session{options: o, tracer: tracer, began: time.Now(), state: &image.State{}, injections: map[int]*tracee.Injection{}}
	if err := s.timed("check", s.checkSettled); err != nil {
		return nil, err
	}
	var err error
	if s.writer, err = image.NewWriter(o.Dir); err != nil {
		return nil, err
	}
	s.report.Dir = s.writer.Dir()
	s.memory = memory.Capture{State: s.state, Path: s.writer.Path, Frames: o.Frames, InPlace: o.InPlace, Fallback: o.Fallback}
	return s, nil
}

// MakeRoom makes room in the image for the memory of an application that is neither copied ahead nor forked, where that shortens the freeze. It may be left out.
func (s *Session) MakeRoom() error {
	fs, err := kernel.FileSystem(s.writer.Dir())
	if err != nil || fs != kernel.TmpfsMagic || s.options.Precopy != nil || s.options.Fork {
		return err
	}
	return s.timed("room", func() error { return s.eachRunning(s.memory.MakeRoom) })
}

// eachRunning calls do for the processes of an application that runs. One that has ended, or does not look right at this instant, is left to the freeze.
func (s *Session) eachRunning(do func(pid int) error) error {
	tree, err := tracee.Check([]int{s.options.Root})
	if err != nil {
		return err
	}
	for _, p := range tree {
		if p.Zombie {
			continue
		}
		if err := do(p.PID); err != nil && !errors.Is(err, refuse.ErrRefused) && !procfs.Gone(err) {
			return err
		}
	}
	return nil
}

// Survey looks at the mappings once more, just before the freeze, which then need not. It may be left out.
func (s *Session) Survey() error {
	return s.timed("survey", func() error { return s.eachRunning(s.memory.Survey) })
}

// Freeze stops every thread of the application.
func (s *Session) Freeze(ctx context.Context) error {
	return s.timed("freeze", func() error { return s.freezeSettled(ctx) })
}

// freezeSettled freezes the application once more as long as it is caught with something that is refused: the check has found nothing that lasts. A busy server
// always has something that it will not have a moment later, such as connections that wait to be accepted.
func (s *Session) freezeSettled(ctx context.Context) (err error) {
	const tries, most = 40, 60 * time.Millisecond // together longer than the second after which a request for a connection is repeated
	for try := 1; ; try++ {
		if s.frozen, err = s.tracer.Freeze(ctx, []int{s.options.Root}); err != nil {
			return err
		}
		if err = s.takeObjects(); !errors.Is(err, refuse.ErrRefused) || try == tries {
			return err
		}
		thawed := s.frozen.Thaw()
		s.frozen = nil
		if err := errors.Join(thawed, context.Cause(ctx)); err != nil {
			return err
		}
		time.Sleep(min(3*time.Duration(try)*time.Millisecond, most))
	}
}

// takeObjects takes part in what the frozen application holds. What can be seen of it is refused only when no requests for connections come in any more.
func (s *Session) takeObjects() error {
	var live []int
	for _, p := range s.frozen.Processes {
		if !p.Zombie {
			live = append(live, p.PID)
		}
	}
	s.objects = &object.Capture{State: s.state, Dir: s.writer.Dir(), SharedMemory: s.memory.SharedByFD, Hush: &s.hush,
		Cleanup: func(pid int) *tracee.Batch { return s.injections[pid].Cleanup() }}
	for _, do := range []func() error{func() error { return s.objects.Take(live) }, s.lockRequests, s.objects.CheckFrozen} {
		if err := do(); err != nil {
			if s.objects.AsksItself() {
				err = errors.Join(err, s.hush.End(), s.unlockRequests())
			}
			s.objects.Release()
			return err
		}
	}
	return nil
}

// Capture takes the state and the memory of the frozen application. With Options.Fork, DumpHeld takes most of the memory later.
func (s *Session) Capture(ctx context.Context) error {
	for _, step := range []struct {
		name   string
		do     func() error
		wanted bool
	}{
		{"processes", s.captureProcesses, true},
		{"mappings", s.captureMappings, true},
		{"fork", s.fork, s.options.Fork},
		{"objects", s.objects.Capture, true},
		{"pages", func() error { return s.dump(ctx) }, true},
		{"network", s.captureNetwork, true},
		{"compare", s.compare, s.options.Paranoid},
		{"hash", s.hash, s.options.Paranoid && s.options.Frames != nil},
	} {
		if !step.wanted {
			continue
		}
		if err := s.timed(step.name, step.do); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

func (s *Session) compare() error { return s.eachLive(s.memory.Compare) }

func (s *Session) hash() error {
	if err := s.eachLive(s.memory.Hash); err != nil {
		return err
	}
	return s.memory.HashShared()
}

// eachLive calls do for each process that is no zombie.
func (s *Session) eachLive(do func(*image.Process) error) error {
	for i := range s.state.Processes {
		p := &s.state.Processes[i]
		if s.injections[p.PID] == nil {
			continue
		}
		if err := do(p); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) captureMappings() error {
	err := s.eachLive(func(p *image.Process) error {
		start, size := s.injections[p.PID].Extent()
		return s.memory.AddressSpace(p, start, size)
	})
	if err != nil {
		return err
	}
	return s.memory.CheckShared()
}

func (s *Session) dump(ctx context.Context) error {
	if err := s.memory.ForgetEnded(); err != nil {
		return err
	}
	total := int64(0)
	err := s.eachLive(func(p *image.Process) error {
		err := s.memory.FindPages(p)
		total += s.memory.Left(p)
		return err
	})
	if err != nil {
		return err
	}
	if s.report.Precopy != nil {
		s.report.Precopy.Left = total
	}
	moved := memory.CountMoved(ctx, func(n int64) { s.options.Progress("pages", n, max(n, total)) })
	err = s.eachLive(func(p *image.Process) error {
		if err := s.memory.Dump(p, moved); err != nil {
			return fmt.Errorf("pid %d (%s): %w", p.PID, p.Comm, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.memory.DumpShared(moved)
}

// countStored tells how much memory the image holds.
func (s *Session) countStored() {
	s.report.Bytes, s.report.InPlace, s.report.Skipped = 0, 0, 0
	for i := range s.state.Processes {
		p := &s.state.Processes[i]
		s.report.Bytes += p.Memory.FOAM.Stored()
		s.report.InPlace += s.memory.InFrames(p)
		s.report.Skipped += memory.Private(p) - p.Memory.FOAM.Stored()
	}
	for _, m := range s.state.Memories {
		s.report.Bytes += m.FOAM.Stored()
	}
}

// Commit makes the image complete and durable: from here on it can be restored.
func (s *Session) Commit() error {
	s.countStored()
	return s.timed("commit", func() error { return s.writer.Commit(s.state, s.options.Tool) })
}

// Thaw lets the application run on as if nothing had happened.
func (s *Session) Thaw() error {
	return s.timed("thaw", func() error {
		// First, lest the application's own requests be dropped.
		unlocked := s.unlockRequests()
		since := s.frozen.Since
		err := s.frozen.Thaw()
		s.frozen = nil
		s.report.Frozen = report.Duration(time.Since(since))
		return errors.Join(unlocked, err, s.releaseObjects())
	})
}

// Kill ends the application. The network must not answer for its connections while it is away: a lock is installed first, which a restore
// removes. After an error nobody was ended and the image is gone.
func (s *Session) Kill(ctx context.Context) error {
	return s.timed("end", func() error {
		if err := context.Cause(ctx); err != nil {
			return errors.Join(err, image.Remove(s.writer.Dir()))
		}
		ending, err := s.silence()
		if err != nil {
			return errors.Join(err, image.Remove(s.writer.Dir()))
		}
		since := s.frozen.Since
		err = s.frozen.Kill()
		s.frozen = nil
		s.report.Frozen = report.Duration(time.Since(since))
		return errors.Join(err, s.releaseObjects(), ending.Close())
	})
}

// Seal adds hashes of all contents to the committed image.
func (s *Session) Seal() error {
	return s.timed("seal", func() error {
		return s.writer.Seal(func(done, total int64) { s.options.Progress("seal", done, total) })
	})
}

// Report returns what was done so far.
func (s *Session) Report() *Report {
	s.report.Total = report.Duration(time.Since(s.began))
	r := s.report
	r.Steps = slices.Clone(r.Steps)
	return &r
}

// State is what was captured.
func (s *Session) State() *image.State { return s.state }

// Abort thaws the application, if it is frozen, and removes an image that was not committed.
func (s *Session) Abort() error {
	err := s.unlockRequests()
	if s.frozen != nil {
		err = errors.Join(err, s.frozen.Thaw())
		s.frozen = nil
	}
	err = errors.Join(err, s.releaseObjects())
	s.Close()
	if removed := s.writer.Abort(); err == nil {
		err = removed
	}
	return err
}

// Close lets go of what the session holds besides the application.
func (s *Session) Close() {
	s.releaseHolders()
	s.memory.Close()
}

func (s *Session) timed(name string, do func() error) error {
	s.options.Progress(name, 0, 0)
	return s.report.Steps.Do(name, do)
}
