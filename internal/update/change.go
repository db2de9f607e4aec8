package update

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kup-project/kup/internal/checkpoint"
	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/kexec"
	"github.com/kup-project/kup/internal/memory"
	"github.com/kup-project/kup/internal/refuse"
)

// change is the downtime, up to the jump. It begins anew if page frames that are to stay have moved meanwhile.
func (u *update) change(ctx context.Context) error {
	const tries = 3
	for try := 1; ; try++ {
		err := u.changeOnce(ctx)
		if !errors.Is(err, frames.ErrMoved) || try == tries || ctx.Err() != nil {
			return err
		}
		if failed := u.dismiss(); failed != nil {
			return errors.Join(err, failed)
		}
		u.note("thawed, to try again: " + err.Error())
	}
}

func (u *update) changeOnce(ctx context.Context) error {
	if err := u.captureSettled(ctx); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := u.disks.freeze(); err != nil {
		return errors.Join(err, u.disks.thaw())
	}
	// Nothing may be written to a file from here on: it would wait for the file system for ever.
	if err := u.checkFrames(); err != nil {
		return errors.Join(err, u.disks.thaw())
	}
	u.kmsg.write(stampNow("jump"))
	return errors.Join(kexec.Jump(), u.disks.thaw())
}

// captureSettled repeats the capture while something transient is refused, as a connection that is just coming in. What cannot be
// captured at all was refused before.
func (u *update) captureSettled(ctx context.Context) error {
	const tries, pause = 10, 50 * time.Millisecond
	for try := 1; ; try++ {
		err := u.prepare()
		if err == nil {
			err = u.captureAll(ctx)
		}
		full := errors.Is(err, frames.ErrNoRoom) && u.Carrier == CarrierBest
		tooBig := u.tooBig(err)
		if err == nil || !errors.Is(err, refuse.ErrRefused) && !full && !tooBig || try == tries || ctx.Err() != nil {
			return err
		}
		if failed := u.dismiss(); failed != nil {
			return errors.Join(err, failed)
		}
		switch {
		case tooBig:
			u.writeToDisk(err)
		case full:
			if failed := u.fallBack(err); failed != nil {
				return errors.Join(err, failed)
			}
		}
		u.note("thawed, to try again: " + strings.ReplaceAll(err.Error(), "\n", "; "))
		time.Sleep(pause)
	}
}

// captureAll freezes all applications, then saves one after the other.
func (u *update) captureAll(ctx context.Context) error {
	u.enter()
	if u.inPlace != nil {
		u.inPlace.Forget() // what an earlier try has claimed
	}
	if !u.NoPrecopy && (u.inPlace == nil || u.KeepFallback) {
		if err := u.copyAhead(ctx); err != nil {
			return err
		}
	}
	if u.parcel == nil { // else nothing on the disk will look complete before the next kernel says so
		if err := u.journal.record(Frozen); err != nil {
			return err
		}
	}
	u.note("freeze")
	for _, c := range u.carried {
		if err := c.session.Freeze(ctx); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	u.note("frozen")
	for i, c := range u.carried {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := c.session.Capture(ctx); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		if err := c.session.Commit(); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		if u.Paranoid {
			if err := c.session.Seal(); err != nil {
				return fmt.Errorf("%s: %w", c.Name, err)
			}
		}
		u.journal.Applications[i].Capture = c.session.Report()
	}
	u.note("captured")
	return u.send()
}

// copyAhead saves most of the memory while the applications run, if the kernel can tell what they write meanwhile.
func (u *update) copyAhead(ctx context.Context) error {
	for _, c := range u.carried {
		err := c.session.Precopy(ctx, checkpoint.PrecopyOptions{})
		if errors.Is(err, memory.ErrNoTracking) {
			u.note(err.Error() + ": all memory is copied in the freeze")
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	u.note("copied ahead")
	for _, c := range u.carried {
		if err := c.session.Survey(); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return nil
}
