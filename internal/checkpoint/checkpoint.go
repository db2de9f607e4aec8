package checkpoint

import (
	"context"
	"errors"
	"time"

	"github.com/kup-project/kup/internal/refuse"
	"github.com/kup-project/kup/internal/tracee"
)

// Run checkpoints the tree of processes below o.Root into an image. After an error the application runs on as if nothing had happened, and no
// image is left. Errors match refuse.ErrRefused if the application cannot be checkpointed.
func Run(ctx context.Context, o Options) (*Report, error) {
	tracer := tracee.New()
	defer tracer.Close()
	const tries = 5
	began := time.Now()
	for try := 1; ; try++ {
		s, err := Prepare(tracer, o)
		if err != nil {
			return nil, err
		}
		s.began = began
		if err = s.take(ctx); err == nil {
			defer s.Close()
			// The image is complete: whatever fails from here on does not take it away.
			return s.Report(), s.Seal()
		}
		aborted := s.Abort()
		if aborted != nil || !refuse.Passing(err) || try == tries || ctx.Err() != nil {
			return nil, errors.Join(err, aborted)
		}
		time.Sleep(time.Duration(try) * 10 * time.Millisecond)
	}
}

// take copies ahead if asked to, freezes and captures the application, and completes the image. An application that goes on does so before the image is made
// durable, and before memory that was forked off is copied; one that ends does so after.
func (s *Session) take(ctx context.Context) error {
	if s.options.Precopy != nil {
		if err := s.Precopy(ctx, *s.options.Precopy); err != nil {
			return err
		}
	}
	if err := s.MakeRoom(); err != nil {
		return err
	}
	if err := s.Survey(); err != nil {
		return err
	}
	if err := s.Freeze(ctx); err != nil {
		return err
	}
	if err := s.Capture(ctx); err != nil {
		return err
	}
	if s.options.LeaveRunning {
		if err := s.Thaw(); err != nil {
			return err
		}
		if err := s.DumpHeld(ctx); err != nil {
			return err
		}
		return s.Commit()
	}
	if err := s.Commit(); err != nil {
		return err
	}
	return s.Kill(ctx)
}
