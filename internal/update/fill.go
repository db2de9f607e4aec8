package update

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/pageserver"
)

// onDemand tells whether applications are to run before their memory is back. It is the shorter way from any disk: what they touch comes first.
func (b *boot) onDemand() bool {
	return !b.Eager && !b.journal.Paranoid && canDemand()
}

// canDemand tells whether this kernel can do that.
func canDemand() bool {
	return kernel.FeatureUserfaultfd.Err() == nil && kernel.FeatureUffdEvents.Err() == nil
}

// awaitMemory waits until the memory of all applications that run is back, and gives back meanwhile what was read. One that has lost its page server was ended by that: it is
// restored again with all of its memory, or if that is lost, too, started afresh.
func (b *boot) awaitMemory(ctx context.Context) error {
	failed := []error{b.giveBackUnneeded(ctx)}
	for i := range b.journal.Applications {
		a := &b.journal.Applications[i]
		if !a.Restored || a.Return == nil || a.Return.Pages == nil {
			continue
		}
		err := b.await(ctx, a)
		if err != nil && !a.Lost {
			a.Restored, a.Error = false, err.Error()
			err = fmt.Errorf("%s did not get its memory back: %w; its image %s is kept", a.Name, err, a.Image)
			b.note("failed to fill " + a.Name)
		}
		failed = append(failed, err)
	}
	return errors.Join(append(failed, b.endDraining(), b.noteExtra())...)
}

// noteExtra notes how much more memory was needed than the applications have, where that was left in place.
func (b *boot) noteExtra() error {
	if b.meter == nil {
		return nil
	}
	_, err := b.meter.read()
	b.journal.Extra = b.meter.most
	b.note(fmt.Sprintf("%d MB of memory more than before were in use at most", b.meter.most>>20))
	return err
}

// mostFillings is how often an application is restored that loses its page server.
const mostFillings = 3

func (b *boot) await(ctx context.Context, a *Application) error {
	for range mostFillings {
		lost, err := b.awaitServers(ctx, a)
		if err != nil {
			return err
		}
		if lost == nil {
			b.note("filled " + a.Name)
			return nil
		}
		if why := gone(a, lost); why != nil && !b.fallBack(a, why) {
			return b.lose(a, why)
		}
		b.note("again " + a.Name + ": " + lost.Failed)
		a.Restored = false // its whole image is needed again
		if err := b.restore(ctx, a, false); err != nil {
			return err
		}
		if a.Restored = true; a.Return.Pages == nil {
			return nil
		}
	}
	return errors.New("it has lost its page server again and again")
}

// gone says why an application that has lost its page server cannot have its memory from page frames again, nil if it can.
func gone(a *Application, lost *pageserver.Filling) error {
	if lost.InPlace {
		return errors.New(lost.Failed)
	}
	img, err := image.Open(a.Image)
	if err != nil {
		return nil // the restore says so
	}
	if err := frames.CheckKept(img.State.Physical()); errors.Is(err, frames.ErrGone) {
		return fmt.Errorf("%s; part of its memory was given back by then: %w", lost.Failed, err)
	}
	return nil
}

// awaitServers waits for the page servers of an application, and returns one that has failed.
func (b *boot) awaitServers(ctx context.Context, a *Application) (lost *pageserver.Filling, err error) {
	const often = 40 * time.Millisecond
	var failed error
	var gave time.Time
	progress := func(step string, done, total int64) {
		b.Progress(step, done, total)
		if failed == nil && time.Since(gave) > often {
			failed, gave = errors.Join(b.measure(), b.giveBackUnneeded(ctx)), time.Now()
		}
	}
	for _, root := range a.Return.Roots {
		if err := pageserver.Wait(ctx, root, progress); err != nil {
			return nil, err
		}
		f, err := pageserver.Failed(root)
		if err != nil {
			return nil, err
		}
		if f != nil {
			lost = f
		}
	}
	return lost, failed
}
