package update

import (
	"context"
	"errors"
	"fmt"

	"github.com/kup-project/kup/internal/app"
	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/image"
)

// over tells whether nothing is left to do for an application.
func (a *Application) over() bool { return a.Restored || a.Lost }

// startLost starts those applications afresh whose memory has not got here: the machine was switched off on the way.
func (b *boot) startLost() error {
	var failed []error
	for i := range b.journal.Applications {
		a := &b.journal.Applications[i]
		if a.over() {
			continue
		}
		img, err := image.Open(a.Image)
		if err != nil {
			continue // the restore says so
		}
		err = frames.CheckKept(img.State.Frames())
		if !errors.Is(err, frames.ErrGone) {
			failed = append(failed, err)
			continue
		}
		b.note("lost " + a.Name + ": " + err.Error())
		a.Error = err.Error()
		if err := b.startInstead(a); err != nil {
			failed = append(failed, err)
			continue
		}
		a.Lost = true
		b.done.Started = append(b.done.Started, a.Name)
		b.note("started " + a.Name)
	}
	return errors.Join(failed...)
}

// startInstead starts an application whose image is of no use.
func (b *boot) startInstead(a *Application) error {
	l, err := b.Store.LockWaiting(a.Name)
	if err != nil {
		return err
	}
	defer l.Unlock()
	if l.Image == a.Image {
		l.Image = a.Former
	}
	p, err := l.StartAgain()
	if err != nil {
		return err
	}
	return errors.Join(p.Release(), removeImage(a.Image))
}

// giveBack makes ordinary memory of what the last kernel has kept from this one, when nobody has to read it any more.
func (b *boot) giveBack(ctx context.Context) error {
	kept, err := frames.Kept()
	if err != nil || len(kept) == 0 {
		return err
	}
	needed, err := b.framesNeeded()
	if err != nil {
		return err
	}
	if needed != "" {
		return fmt.Errorf("%d MB of memory stay reserved, because the image %s is in them", kept.Size()>>20, needed)
	}
	if err := frames.GiveBack(ctx); err != nil {
		return fmt.Errorf("%d MB of memory stay reserved until the next update or start: %w", kept.Size()>>20, err)
	}
	b.note("memory given back")
	return nil
}

// framesNeeded returns an image whose contents are in memory that is kept, "" if there is none.
func (b *boot) framesNeeded() (string, error) {
	records, err := b.Store.List()
	if err != nil {
		return "", err
	}
	for _, r := range records {
		if r.Image == "" || r.State == app.Running {
			continue
		}
		if img, err := image.Open(r.Image); err == nil && len(img.State.Frames()) > 0 && frames.CheckKept(img.State.Frames()) == nil {
			return r.Image, nil
		}
	}
	return "", nil
}
