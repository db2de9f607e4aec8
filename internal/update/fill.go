package update

import (
	"context"
	"errors"
	"fmt"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/pageserver"
)

// onDemand tells whether applications can run before their memory is back. It is the shorter way from any disk: what they touch comes first.
func (b *boot) onDemand() bool {
	return !b.Eager && kernel.FeatureUserfaultfd.Err() == nil && kernel.FeatureUffdEvents.Err() == nil
}

// awaitMemory waits until the memory of all applications that run is back. One that has lost its page server was ended by that: it is restored again
// with all of its memory, or if that is lost, too, started afresh.
func (b *boot) awaitMemory(ctx context.Context) error {
	var failed []error
	for i := range b.journal.Applications {
		a := &b.journal.Applications[i]
		if !a.Restored || a.Return == nil || a.Return.Pages == nil {
			continue
		}
		lost, err := b.await(ctx, a)
		switch {
		case err == nil && lost == nil:
			b.note("filled " + a.Name)
		case err == nil && lost.InPlace:
			failed = append(failed, b.lose(a, errors.New(lost.Failed)))
		case err == nil:
			b.note("again " + a.Name + ": " + lost.Failed)
			err = b.restore(ctx, a, false)
		}
		if err != nil {
			a.Restored, a.Error = false, err.Error()
			failed = append(failed, fmt.Errorf("%s did not get its memory back: %w; its image %s is kept", a.Name, err, a.Image))
			b.note("failed to fill " + a.Name)
		}
	}
	return errors.Join(failed...)
}

// await returns the page server that has failed to fill an application, nil if it has all of its memory.
func (b *boot) await(ctx context.Context, a *Application) (lost *pageserver.Filling, err error) {
	for _, root := range a.Return.Roots {
		if err := pageserver.Wait(ctx, root, b.Progress); err != nil {
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
	return lost, nil
}
