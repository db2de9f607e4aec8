package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/kup-project/kup/internal/checkpoint"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/pageserver"
	"github.com/kup-project/kup/internal/report"
)

// Measured is what was found out about one subject. All times are medians.
type Measured struct {
	Subject string `json:"subject"`
	Bytes   int64  `json:"bytes"` // stored

	StopCopy Checkpoint `json:"stop_copy"` // all memory copied in the freeze
	Precopy  Checkpoint `json:"precopy"`   // only what was written since the last round
	Forked   Checkpoint `json:"forked"`    // none: it is copied from a fork

	Eager    Restore `json:"eager"`
	OnDemand Restore `json:"on_demand"`
}

// Checkpoint is of an application that runs on.
type Checkpoint struct {
	Frozen report.Duration `json:"frozen_ms"`
	Total  report.Duration `json:"total_ms"`
	Steps  report.Steps    `json:"steps"` // of the round with the median of Frozen
}

// Restore counts from the start of the command.
type Restore struct {
	Running report.Duration `json:"running_ms"` // as kup reports it, without the start of the program
	Answer  report.Duration `json:"first_answer_ms"`
	Filled  report.Duration `json:"filled_ms"` // all memory is there
	Steps   report.Steps    `json:"steps"`     // of the round with the median of Running
}

// measure starts a subject, measures it and ends it.
func (b *bench) measure(ctx context.Context, s subject, rounds int) (m Measured, err error) {
	a, err := s.start(ctx, b)
	if a != nil {
		defer func() { err = errors.Join(err, b.end(a)) }()
	}
	if err != nil {
		return m, err
	}
	if err := a.answer(); err != nil {
		return m, err
	}
	m.Subject = s.name
	var stopCopy, precopy, forked []Checkpoint
	var eager, onDemand []Restore
	for range rounds {
		c, size, err := b.glance(ctx, a)
		if err != nil {
			return m, err
		}
		m.Bytes = size
		stopCopy = append(stopCopy, c)
		if c, _, err = b.glance(ctx, a, "--precopy"); err != nil {
			return m, err
		}
		precopy = append(precopy, c)
		if c, _, err = b.glance(ctx, a, "--fork"); err != nil {
			return m, err
		}
		forked = append(forked, c)
		r, _, err := b.cycle(ctx, a, nil)
		if err != nil {
			return m, err
		}
		eager = append(eager, r)
		if r, _, err = b.cycle(ctx, a, nil, "--on-demand"); err != nil {
			return m, err
		}
		onDemand = append(onDemand, r)
	}
	m.StopCopy, m.Precopy, m.Forked = medianCheckpoint(stopCopy), medianCheckpoint(precopy), medianCheckpoint(forked)
	m.Eager, m.OnDemand = medianRestore(eager), medianRestore(onDemand)
	if a.check != nil {
		err = a.check()
	}
	return m, err
}

func (b *bench) image() string { return filepath.Join(b.dir, "image") }

// checkpoint makes an image.
func (b *bench) checkpoint(ctx context.Context, a *application, flags ...string) (c checkpoint.Report, err error) {
	return c, b.run(ctx, &c, append([]string{"checkpoint", "--pid", strconv.Itoa(a.pid), "--dir", b.image()}, flags...)...)
}

// glance makes an image of an application that runs on, and throws it away at once.
func (b *bench) glance(ctx context.Context, a *application, flags ...string) (Checkpoint, int64, error) {
	c, err := b.checkpoint(ctx, a, append(flags, "--leave-running")...)
	if err == nil {
		err = a.answer()
	}
	return Checkpoint{c.Frozen, c.Total, c.Steps}, c.Bytes, errors.Join(err, os.RemoveAll(b.image()))
}

// cycle ends the application and restores it, each with options.
func (b *bench) cycle(ctx context.Context, a *application, saving []string, restoring ...string) (r Restore, c checkpoint.Report, err error) {
	defer func() { err = errors.Join(err, os.RemoveAll(b.image())) }()
	if c, err = b.checkpoint(ctx, a, saving...); err != nil {
		return r, c, err
	}
	if err := reapAll(); err != nil {
		return r, c, err
	}
	r, err = b.restore(ctx, a, restoring...)
	return r, c, err
}

// restore restores the application, and waits until all of its memory is there.
func (b *bench) restore(ctx context.Context, a *application, flags ...string) (r Restore, err error) {
	var restored struct {
		Total report.Duration `json:"total_ms"`
		Steps report.Steps    `json:"steps"`
	}
	begin := time.Now()
	if err := b.run(ctx, &restored, append([]string{"restore", "--dir", b.image()}, flags...)...); err != nil {
		return r, err
	}
	if err := a.answer(); err != nil {
		return r, err
	}
	r = Restore{Running: restored.Total, Answer: report.Duration(time.Since(begin)), Steps: restored.Steps}
	for deadline := begin.Add(patience); ; time.Sleep(time.Millisecond) {
		f, err := pageserver.Find(a.pid)
		if err != nil {
			return r, err
		}
		if f == nil {
			break
		}
		if time.Now().After(deadline) {
			return r, fmt.Errorf("%v after %v", f, patience)
		}
	}
	r.Filled = report.Duration(time.Since(begin))
	return r, nil
}

// end kills an application, and waits until its process IDs are free.
func (b *bench) end(a *application) error {
	a.close()
	if err := kernel.Kill(-a.pid, kernel.SIGKILL); err != nil && !errors.Is(err, kernel.ESRCH) {
		return err
	}
	return reapAll()
}

func medianCheckpoint(all []Checkpoint) Checkpoint {
	slices.SortFunc(all, func(a, b Checkpoint) int { return int(a.Frozen - b.Frozen) })
	m := all[len(all)/2]
	m.Total = median(all, func(c Checkpoint) report.Duration { return c.Total })
	return m
}

func medianRestore(all []Restore) Restore {
	slices.SortFunc(all, func(a, b Restore) int { return int(a.Running - b.Running) })
	m := all[len(all)/2]
	m.Answer = median(all, func(r Restore) report.Duration { return r.Answer })
	m.Filled = median(all, func(r Restore) report.Duration { return r.Filled })
	return m
}
