package update

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kup-project/kup/internal/app"
	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/netlock"
	"github.com/kup-project/kup/internal/pageserver"
)

// over tells whether nothing is left to do for an application.
func (a *Application) over() bool { return a.Restored || a.Lost }

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
	return errors.Join(fmt.Errorf("%s has lost its memory, and is started afresh: %w", a.Name, why), unlockNetwork(a.Image), b.forgetLost(a, why))
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
	needed, err := b.framesNeeded()
	if err != nil {
		return err
	}
	if needed != "" {
		return fmt.Errorf("memory stays reserved: %s", needed)
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

// framesNeeded says what needs memory that is kept, "" if nothing does.
func (b *boot) framesNeeded() (string, error) {
	records, err := b.Store.List()
	if err != nil {
		return "", err
	}
	for _, r := range records {
		if r.Image == "" || r.State == app.Running {
			continue
		}
		if img, err := image.Open(r.Image); err == nil && holdsFrames(img) {
			return fmt.Sprintf("the image %s is in it", r.Image), nil
		}
	}
	f, err := pageserver.Binding()
	if err != nil || f == nil {
		return "", err
	}
	return fmt.Sprintf("an application is %v", f), nil
}
