package kup

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/kup-project/kup/internal/app"
	"github.com/kup-project/kup/internal/checkpoint"
	"github.com/kup-project/kup/internal/memory"
	"github.com/kup-project/kup/internal/pageserver"
)

// CheckpointOptions says what to save, where.
type CheckpointOptions struct {
	State
	Name         string        // an application under kup's care, or
	PID          int           // the root of any other tree
	Dir          string        // of the image, which must not exist; empty: below State, where it replaces the application's older ones
	LeaveRunning bool          // do not end the application
	Precopy      bool          // copy memory while the application runs, so that the freeze only copies what was written since
	Fork         bool          // stop the application only for a fork(2), and copy memory from the copy; with LeaveRunning, without Precopy
	Tracking     string        // how pre-copy finds written pages: "wp-async" or "soft-dirty"; empty for the best that works
	Rounds       int           // of pre-copy, at most; 0 for a sensible number
	MaxTime      time.Duration // of pre-copy; 0 for a sensible time
	Paranoid     bool          // compare every page with its copy before the application runs on or is ended
	Progress     Progress
}

// Checkpointed says what was saved.
type Checkpointed struct {
	Name string `json:"name,omitempty"` // of an application under kup's care
	PID  int    `json:"pid"`
	*checkpoint.Report
}

// Checkpoint saves an application to an image, and ends it once the image is complete. If it fails, the application runs on. An application that is
// still being filled after a restore on demand is waited for.
func Checkpoint(ctx context.Context, o CheckpointOptions) (*Checkpointed, error) {
	store, err := o.store()
	if err != nil {
		return nil, err
	}
	if o.Name == "" {
		// It may be one of ours all the same.
		if o.Name, _, err = store.ByPID(o.PID); err != nil {
			return nil, err
		}
	}
	if o.Name == "" {
		return o.checkpoint(ctx, store, fmt.Sprintf("pid-%d", o.PID))
	}
	l, err := store.Lock(o.Name)
	if err != nil {
		return nil, err
	}
	defer l.Unlock()
	if o.PID, err = l.Root(); err != nil {
		return nil, err
	}
	done, err := o.checkpoint(ctx, store, o.Name)
	if err != nil {
		return nil, err
	}
	if err := l.Captured(done.Dir, !o.LeaveRunning); err != nil {
		return nil, fmt.Errorf("the image %s is complete, but that could not be recorded: %w", done.Dir, err)
	}
	return done, store.DropOlderImages(o.Name, done.Dir)
}

// checkpoint saves the tree below o.PID.
func (o CheckpointOptions) checkpoint(ctx context.Context, store *app.Store, images string) (*Checkpointed, error) {
	var err error
	if o.Dir == "" {
		o.Dir, err = store.NextImageDir(images)
	} else {
		o.Dir, err = filepath.Abs(o.Dir)
	}
	if err != nil {
		return nil, err
	}
	if err := pageserver.Wait(ctx, o.PID, o.Progress); err != nil {
		return nil, err
	}
	options := checkpoint.Options{
		Root: o.PID, Dir: o.Dir, LeaveRunning: o.LeaveRunning, Fork: o.Fork, Paranoid: o.Paranoid, Tool: version(), Progress: o.Progress,
	}
	if o.Precopy {
		options.Precopy = &checkpoint.PrecopyOptions{Rounds: o.Rounds, MaxTime: o.MaxTime, Backend: memory.Backend(o.Tracking)}
	}
	report, err := checkpoint.Run(ctx, options)
	if err != nil {
		return nil, err
	}
	return &Checkpointed{o.Name, o.PID, report}, nil
}
