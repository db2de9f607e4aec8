package update

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/kup-project/kup/internal/app"
	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/netlock"
	"github.com/kup-project/kup/internal/restore"
)

// BootOptions says how to bring applications up after a start of the machine.
type BootOptions struct {
	Store     *app.Store
	NetworkUp string // a program that gives the network interfaces their addresses; "": they come up otherwise
	Eager     bool   // bring all memory back before an application runs, instead of what it asks for first
	// Progress is told of steps and how far they are, in bytes. May be nil.
	Progress func(step string, done, total int64)
	// Log is told of each step when it is reached. May be nil.
	Log func(Stamp)
}

// Booted says what a boot did.
type Booted struct {
	Restored []string `json:"restored"` // applications that go on where they were
	Started  []string `json:"started"`  // applications that were started afresh
	Steps    []Stamp  `json:"steps"`
	// Applications are those that the update took along, with figures from before and after the change of the kernel.
	Applications []Application `json:"applications,omitempty"`
}

// Boot restores what an update has captured, and starts afresh what ran when the machine went down otherwise. It belongs before the
// network interfaces are up: nobody may ask for a connection that is not back yet. It goes on after failures, and its error joins them.
func Boot(ctx context.Context, o BootOptions) (*Booted, error) {
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	if o.Log == nil {
		o.Log = func(Stamp) {}
	}
	lock, err := lockUpdates(o.Store.Dir())
	if err != nil {
		return nil, errors.Join(err, o.networkUp(ctx))
	}
	defer lock.Close()
	// What a kup that was killed has changed of this kernel.
	recovered := frames.Recover(workDir(o.Store.Dir()))
	b := &boot{BootOptions: o, done: Booted{Restored: []string{}, Started: []string{}}}
	b.note("boot")
	pending, err := b.pending()
	if err != nil {
		return nil, errors.Join(err, o.networkUp(ctx))
	}
	if pending {
		err = b.restoreAll(ctx)
	} else {
		err = b.networkUp(ctx)
		b.note("network up")
	}
	err = errors.Join(recovered, err, b.startAfresh(), b.giveBack(ctx), b.endOvercommit())
	b.note("booted")
	return &b.done, err
}

// boot is one boot at work.
type boot struct {
	BootOptions
	journal *Journal
	drain   *drain // nil with any other carrier than CarrierCopy
	meter   *meter // nil where memory is not left in place
	done    Booted

	bound      bool  // bindOnce was called
	unbindable error // why memory that has stayed where it was cannot be used

	overcommit  *frames.Quiet           // nil if the kernel has all of its memory
	images      map[string]*image.Image // what silence has opened, by directory, until it is restored
	places      []image.Extent          // the physical memory that images are in
	placesKnown bool                    // these are all
}

func (b *boot) note(what string) {
	s := stampNow(what)
	b.done.Steps = append(b.done.Steps, s)
	b.Log(s)
}

// pending tells whether an update has left applications to restore. If the machine went down in the middle of one, it clears up.
func (b *boot) pending() (bool, error) {
	var err error
	if b.journal, err = ReadJournal(b.Store.Dir()); err != nil || b.journal == nil {
		return false, err
	}
	elsewhere, err := b.journal.elsewhere()
	if err != nil {
		return false, err
	}
	switch {
	case !elsewhere:
	case b.journal.Phase == Switched || b.journal.Phase == Restoring:
		return true, nil
	case b.journal.Phase == Prepared:
		if sent, err := b.receive(); sent || err != nil {
			return sent, err
		}
	}
	return false, clearUp(b.Store.Dir())
}

// restoreAll restores all applications that are not back yet.
func (b *boot) restoreAll(ctx context.Context) error {
	failed := []error{b.bindOnce(), b.copiesInstead(), b.prepareDrain(), b.silence(), b.reserveIDs(), b.hold()}
	b.note("silent")
	failed = append(failed, b.networkUp(ctx))
	b.note("network up")
	failed = append(failed, b.journal.record(Restoring))
	for i := range b.journal.Applications {
		a := &b.journal.Applications[i]
		if a.over() {
			continue
		}
		if err := b.restore(ctx, a, b.onDemand()); err != nil {
			failed = append(failed, b.notRestored(a, err))
			continue
		}
		a.Restored, a.Error = true, ""
		b.done.Restored = append(b.done.Restored, a.Name)
	}
	failed = append(failed, b.journal.record(Restoring), b.freeSpare(), b.awaitMemory(ctx))
	b.done.Applications = b.journal.Applications
	return errors.Join(append(failed, b.settle())...)
}

// reserveIDs keeps applications that run already, and what they start, from taking IDs: those of applications that are still to come, and low ones, which the next kernel's
// system takes before they come back there.
func (b *boot) reserveIDs() error {
	highest := 0
	for _, img := range b.images {
		highest = max(highest, img.State.HighestID())
	}
	return kernel.ReserveIDs(highest)
}

// notRestored notes that an application could not be restored, and why.
func (b *boot) notRestored(a *Application, why error) error {
	a.Error = why.Error()
	b.note("failed to restore " + a.Name)
	if errors.Is(why, frames.ErrBound) {
		return b.lose(a, why)
	}
	return fmt.Errorf("%s could not be restored: %w; its image %s is kept, and kup restore %s tries again", a.Name, why, a.Image, a.Name)
}

// silence installs the network locks of all images, which their restores remove: from the first packet on, the kernel does not answer for
// connections that are on their way back. An application whose memory is lost is none of them. What huge pages the others need is reserved.
func (b *boot) silence() error {
	var failed []error
	huge := hugePages{}
	b.images, b.placesKnown = map[string]*image.Image{}, true
	for i := range b.journal.Applications {
		a := &b.journal.Applications[i]
		if a.over() {
			b.placesKnown = b.placesKnown && a.Lost // what was restored by a boot before may not have all of its memory yet
		}
		if a.over() && !b.drain.reads(a) {
			continue
		}
		img, err := image.Open(a.Image)
		if b.lostOnTheWay(a, err) {
			failed = append(failed, b.forgetLost(a, err))
		}
		if err != nil {
			b.placesKnown = b.placesKnown && a.over()
			continue // the restore says so
		}
		b.images[a.Image] = img
		b.places = append(b.places, img.State.Physical()...)
		if b.drain != nil {
			b.drain.know(a.Image, img.State)
		}
		if !a.over() {
			failed = append(failed, b.findMemory(a, img.State))
		}
		if a.over() {
			continue
		}
		huge.add(img.State)
		if img.State.NetLock == "" {
			continue
		}
		if err := netlock.Lock(img.State.NetLock, netlock.Endpoints(img.State)); err != nil {
			failed = append(failed, fmt.Errorf("%s: its clients may lose their connections: %w", a.Name, err))
		}
	}
	return errors.Join(append(failed, huge.reserve())...)
}

// networkUp brings the network up.
func (o BootOptions) networkUp(ctx context.Context) error {
	if o.NetworkUp == "" {
		return nil
	}
	if text, err := exec.CommandContext(ctx, o.NetworkUp).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", o.NetworkUp, err, strings.TrimSpace(string(text)))
	}
	return nil
}

// restore restores an application; what fails once is tried again, with all of its memory.
func (b *boot) restore(ctx context.Context, a *Application, onDemand bool) error {
	l, err := b.Store.LockWaiting(a.Name)
	if err != nil {
		return err
	}
	defer l.Unlock()
	if l.Image != a.Image {
		a.Former = l.Image
	}
	// From here on its record says that it is a checkpoint like any other.
	if err := l.Captured(a.Image, true); err != nil {
		return err
	}
	if first := b.bringBack(ctx, a, onDemand); first != nil {
		b.note("retry " + a.Name + ": " + first.Error())
		b.fallBack(a, first)
		if err := b.bringBack(ctx, a, false); err != nil {
			return twice(first, err)
		}
	}
	b.note("restored " + a.Name)
	return l.Restored()
}

func (b *boot) bringBack(ctx context.Context, a *Application, onDemand bool) (err error) {
	options := restore.Options{Dir: a.Image, Image: b.images[a.Image], Fallback: a.Fallback != "", Progress: b.Progress}
	if options.OnDemand, err = b.makeRoom(ctx, a, onDemand); err != nil {
		return err
	}
	delete(b.images, a.Image)
	a.Return, err = restore.Run(ctx, options)
	return err
}

// twice is the error of two attempts. The first may have made the second impossible: page frames that it has bound are gone with its processes.
func twice(first, second error) error {
	if first.Error() == second.Error() {
		return first
	}
	return fmt.Errorf("%w; and at the second attempt: %w", first, second)
}

// settle closes the update: images that were restored are deleted.
func (b *boot) settle() error {
	phase := Settled
	for _, a := range b.journal.Applications {
		if !a.over() {
			phase = Restoring
		}
	}
	for _, s := range b.done.Steps {
		b.journal.stamp(s)
	}
	// First the journal: it must never name an image as complete that is being deleted.
	if err := b.journal.record(phase); err != nil {
		return err
	}
	var failed []error
	for _, a := range b.journal.Applications {
		if a.Restored {
			failed = append(failed, b.forget(a))
		}
	}
	return errors.Join(failed...)
}

func (b *boot) forget(a Application) error {
	l, err := b.Store.LockWaiting(a.Name)
	if errors.Is(err, app.ErrUnknown) {
		return removeImage(a.Image)
	}
	if err != nil {
		return err
	}
	defer l.Unlock()
	if l.Image == a.Image {
		if err := l.Settled(a.Former); err != nil {
			return err
		}
	}
	return removeImage(a.Image)
}

// startAfresh starts the applications that ran when the machine went down.
func (b *boot) startAfresh() error {
	records, err := b.Store.List()
	if err != nil {
		return err
	}
	var failed []error
	for _, r := range records {
		down, err := r.CrashedWithMachine()
		if err != nil {
			return err
		}
		if !down {
			continue
		}
		if err := b.start(r.Name); err != nil {
			failed = append(failed, err)
			continue
		}
		b.done.Started = append(b.done.Started, r.Name)
		b.note("started " + r.Name)
	}
	return errors.Join(failed...)
}

func (b *boot) start(name string) error {
	l, err := b.Store.LockWaiting(name)
	if err != nil {
		return err
	}
	defer l.Unlock()
	p, err := l.StartAgain()
	if err != nil {
		return err
	}
	return p.Release()
}
