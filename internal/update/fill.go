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
	return !b.Eager && b.journal.Carrier != CarrierModule && canDemand()
}

// canDemand tells whether this kernel can do that.
func canDemand() bool {
	return kernel.FeatureUserfaultfd.Err() == nil && kernel.FeatureUffdEvents.Err() == nil
}

// awaitMemory waits until the memory of all applications that run is back, and gives back meanwhile what was read. One that has lost its page server was ended by that: it is
// restored again with all of its memory.
func (b *boot) awaitMemory(ctx context.Context) error {
	failed := []error{b.giveBackUnneeded(ctx)}
	for i := range b.journal.Applications {
		a := &b.journal.Applications[i]
		if !a.Restored || a.Return == nil || a.Return.Pages == nil {
			continue
		}
		if err := b.await(ctx, a); err != nil {
			a.Restored, a.Error = false, err.Error()
			failed = append(failed, fmt.Errorf("%s did not get its memory back: %w; its image %s is kept", a.Name, err, a.Image))
			b.note("failed to fill " + a.Name)
		}
	}
	return errors.Join(append(failed, b.endDraining())...)
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
		b.note("again " + a.Name + ": " + lost.Failed)
		if gone := checkThere(a.Image); errors.Is(gone, frames.ErrGone) {
			return b.startLost(a, fmt.Errorf("%s; part of its memory was given back by then: %w", lost.Failed, gone))
		}
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

// awaitServers waits for the page servers of an application, and returns one that has failed.
func (b *boot) awaitServers(ctx context.Context, a *Application) (lost *pageserver.Filling, err error) {
	const often = 40 * time.Millisecond
	var failed error
	var gave time.Time
	progress := func(step string, done, total int64) {
		b.Progress(step, done, total)
		if failed == nil && time.Since(gave) > often {
			failed, gave = b.giveBackUnneeded(ctx), time.Now()
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

// checkThere is frames.ErrGone if contents of an image were given back.
func checkThere(dir string) error {
	img, err := image.Open(dir)
	if err != nil {
		return err
	}
	return frames.CheckKept(img.State.Physical())
}
