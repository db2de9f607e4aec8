package kup

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/kup-project/kup/internal/app"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/restore"
)

// RestoreOptions says what to bring back.
type RestoreOptions struct {
	State
	Name     string // an application under kup's care that was checkpointed, or
	Dir      string // any image
	OnDemand bool   // let it run as soon as its mappings exist, and fill its memory meanwhile
	Fallback bool   // take memory from files even if page frames have it, too, after an update with KeepFallback
	Progress Progress
}

// Restored is an application that was brought back. Its roots are children of this process.
type Restored struct {
	Name  string `json:"name,omitempty"` // of an application under kup's care
	Image string `json:"image"`
	*restore.Report

	store *app.Store
}

// Restore brings an application back, with the process IDs it had. It returns when the application runs. If it fails, nothing is left behind.
func Restore(ctx context.Context, o RestoreOptions) (*Restored, error) {
	store, err := o.store()
	if err != nil {
		return nil, err
	}
	if o.Name == "" {
		if o.Dir, err = filepath.Abs(o.Dir); err != nil {
			return nil, err
		}
		if o.Name, _, err = store.ByImage(o.Dir); err != nil {
			return nil, err
		}
	}
	if o.Name == "" {
		return o.restore(ctx, store)
	}
	l, err := store.Lock(o.Name)
	if err != nil {
		return nil, err
	}
	defer l.Unlock()
	if o.Dir, err = l.Restoring(); err != nil {
		if errors.Is(err, app.ErrRunning) {
			err = conflict{err}
		}
		return nil, err
	}
	restored, err := o.restore(ctx, store)
	if err != nil {
		return nil, errors.Join(err, l.NotRestored())
	}
	return restored, l.Restored()
}

// restore brings back what is in o.Dir.
func (o RestoreOptions) restore(ctx context.Context, store *app.Store) (*Restored, error) {
	report, err := restore.Run(ctx, restore.Options{Dir: o.Dir, OnDemand: o.OnDemand, Fallback: o.Fallback, Progress: o.Progress})
	if err != nil {
		return nil, err
	}
	return &Restored{o.Name, o.Dir, report, store}, nil
}

// Wait waits until all roots of the application have ended, and passes on the signals that this process gets in the meantime to the one
// it is waiting for (INT, TERM, HUP, QUIT). The outcome is that of the first root that did not end well.
func (r *Restored) Wait() (Outcome, error) {
	var first Outcome
	attendant := app.NewAttendant()
	defer attendant.Close()
	for _, pid := range r.Roots {
		status, err := attendant.Attend(pid)
		if err != nil {
			return first, err
		}
		outcome := Outcome{Code: kernel.ExitCode(status)}
		if r.Name != "" {
			if outcome, err = r.store.Outcome(r.Name, pid, status); err != nil {
				return first, err
			}
		}
		if first == (Outcome{}) {
			first = outcome
		}
	}
	return first, nil
}

// conflict is a restore that something running stands in the way of.
type conflict struct{ error }

func (c conflict) Unwrap() error        { return c.error }
func (c conflict) Is(target error) bool { return target == ErrConflict }
