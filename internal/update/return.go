package update

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kup-project/kup/internal/app"
	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/netlock"
	"github.com/kup-project/kup/internal/pageserver"
	"github.com/kup-project/kup/internal/refuse"
)

// over tells whether nothing is left to do for an application.
func (a *Application) over() bool { return a.Restored || a.Lost }

// findMemory finds out where an application's memory comes from. If that is nowhere any more, the application is given up.
func (b *boot) findMemory(a *Application, state *image.State) error {
	places := state.Physical()
	if len(places) == 0 {
		return nil
	}
	why := cmp.Or(frames.CheckKept(places), b.unbindable)
	switch {
	case why == nil || b.fallBack(a, why):
		return nil
	case errors.Is(why, frames.ErrGone):
		return b.forgetLost(a, why)
	}
	return why
}

// fallBack lets an application's memory come from files of its image, if it is there, too, and tells whether it is.
func (b *boot) fallBack(a *Application, why error) bool {
	if a.Fallback != "" {
		return true
	}
	img, err := image.Open(a.Image)
	if err != nil || len(img.State.Physical()) == 0 || !img.State.HasFallback() {
		return false
	}
	b.note("fall back to the disk for " + a.Name + ": " + why.Error())
	a.Fallback = why.Error()
	return true
}

// forgetLost gives up an application whose memory has not got here, because the machine was switched off on the way, and its image. It is started afresh, as
// after any other start.
func (b *boot) forgetLost(a *Application, why error) error {
	b.note("lost " + a.Name + ": " + why.Error())
	a.Lost, a.Error = true, why.Error()
	l, err := b.Store.LockWaiting(a.Name)
	if err != nil {
		return err
	}
	defer l.Unlock()
	former := l.Image
	if former == a.Image {
		former = a.Former
	}
	return errors.Join(l.Lost(former), removeImage(a.Image))
}

// lose gives up an application some of whose page frames have become its own and ended with it, and its image.
func (b *boot) lose(a *Application, why error) error {
	a.Restored = false
	b.done.Restored = slices.DeleteFunc(b.done.Restored, func(name string) bool { return name == a.Name })
	return errors.Join(fmt.Errorf("%s has lost its memory, and is started afresh: %w", a.Name, why), unlockNetwork(a.Image), b.forgetLost(a, why), pageserver.ForgetGone())
}

// unlockNetwork ends the silence that was kept for the restore of an image.
func unlockNetwork(dir string) error {
	img, err := image.Open(dir)
	if err != nil || img.State.NetLock == "" {
		return err
	}
	exists, err := netlock.Exists(img.State.NetLock)
	if err != nil || !exists {
		return err
	}
	return netlock.Unlock(img.State.NetLock)
}

// giveBack makes ordinary memory of what the last kernel has kept from this one, when nobody has to read it any more.
func (b *boot) giveBack(ctx context.Context) error {
	needed, err := framesNeeded(b.Store)
	if err != nil {
		return err
	}
	if needed != nil {
		return errors.Join(fmt.Errorf("memory stays reserved, because the image %s is in it", needed.Image), b.giveBackUnneeded(ctx))
	}
	if f, err := pageserver.Binding(); err != nil || f != nil {
		return errors.Join(fmt.Errorf("memory stays reserved: an application is %v", f), err)
	}
	if err := b.unreserve(); err != nil {
		return fmt.Errorf("memory stays reserved: %w", err)
	}
	kept, err := frames.Kept()
	if err != nil || len(kept) == 0 {
		return err
	}
	if err := frames.GiveBack(ctx); err != nil {
		return fmt.Errorf("%d MB of memory stay reserved until the next update or start: %w", kept.Size()>>20, err)
	}
	b.note("memory given back")
	return nil
}

// holdsFrames tells whether contents of an image are in memory that is kept.
func holdsFrames(img *image.Image) bool {
	places := img.State.Physical()
	return len(places) > 0 && frames.CheckKept(places) == nil
}

// checkNeeded refuses to change the kernel while memory that is kept holds an image: it would be lost.
func checkNeeded(store *app.Store) error {
	r, err := framesNeeded(store)
	if err != nil || r == nil {
		return err
	}
	return refuse.Errorf("%s has not been restored since the last update, and its image %s is in memory that another kernel would lose; `kup restore %s` tries that again, `kup rm %s` gives it up",
		r.Name, r.Image, r.Name, r.Name)
}

// framesNeeded returns the record of an application whose image has contents in memory that is kept, nil if there is none.
func framesNeeded(store *app.Store) (*app.Record, error) {
	records, err := store.List()
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if r.Image == "" || r.State == app.Running {
			continue
		}
		if img, err := image.Open(r.Image); err == nil && holdsFrames(img) {
			return r, nil
		}
	}
	return nil, nil
}
