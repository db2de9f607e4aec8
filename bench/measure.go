package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/pageserver"
	"github.com/kup-project/kup/internal/report"
)

// patience bounds every wait for the application.
const patience = time.Minute

// bench is one run.
type bench struct {
	dir string // in memory
	kup string
}

// build compiles kup and the subjects' program.
func (b *bench) build(ctx context.Context) error {
	for _, command := range [][]string{
		{"go", "build", "-trimpath", "-o", b.kup, "./cmd/kup"},
		{"gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", filepath.Join(b.dir, "subject"), "bench/subject/subject.c"},
	} {
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", command[0], err, text)
		}
	}
	return nil
}

// Measured is what was found out about one subject. All times are medians.
type Measured struct {
	Subject string `json:"subject"`
	Bytes   int64  `json:"bytes"` // stored

	StopCopy Checkpoint `json:"stop_copy"` // all memory copied in the freeze
	Precopy  Checkpoint `json:"precopy"`   // only what was written since the last round

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
	var stopCopy, precopy []Checkpoint
	var eager, onDemand []Restore
	for range rounds {
		c, err := b.checkpoint(ctx, a, "--leave-running")
		if err != nil {
			return m, err
		}
		m.Bytes = c.Bytes
		stopCopy = append(stopCopy, c.Checkpoint)
		if c, err = b.checkpoint(ctx, a, "--leave-running", "--precopy"); err != nil {
			return m, err
		}
		precopy = append(precopy, c.Checkpoint)
		r, err := b.cycle(ctx, a)
		if err != nil {
			return m, err
		}
		eager = append(eager, r)
		if r, err = b.cycle(ctx, a, "--on-demand"); err != nil {
			return m, err
		}
		onDemand = append(onDemand, r)
	}
	m.StopCopy, m.Precopy = medianCheckpoint(stopCopy), medianCheckpoint(precopy)
	m.Eager, m.OnDemand = medianRestore(eager), medianRestore(onDemand)
	if a.check != nil {
		err = a.check()
	}
	return m, err
}

func (b *bench) image() string { return filepath.Join(b.dir, "image") }

// checkpointed is what kup reports.
type checkpointed struct {
	Checkpoint
	Bytes int64 `json:"bytes"`
}

// checkpoint makes an image that is thrown away at once.
func (b *bench) checkpoint(ctx context.Context, a *application, flags ...string) (c checkpointed, err error) {
	defer func() { err = errors.Join(err, os.RemoveAll(b.image())) }()
	if err := b.run(ctx, &c, append([]string{"checkpoint", "--pid", strconv.Itoa(a.pid), "--dir", b.image()}, flags...)...); err != nil {
		return c, err
	}
	return c, a.answer()
}

// cycle ends the application and restores it.
func (b *bench) cycle(ctx context.Context, a *application, flags ...string) (r Restore, err error) {
	defer func() { err = errors.Join(err, os.RemoveAll(b.image())) }()
	var c checkpointed
	if err := b.run(ctx, &c, "checkpoint", "--pid", strconv.Itoa(a.pid), "--dir", b.image()); err != nil {
		return r, err
	}
	if err := reapAll(); err != nil {
		return r, err
	}
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

// run executes kup and decodes its report.
func (b *bench) run(ctx context.Context, out any, args ...string) error {
	cmd := exec.CommandContext(ctx, b.kup, append(args, "--json")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("kup %v: %w: %s", args, err, stderr.Bytes())
	}
	return json.Unmarshal(text, out)
}

// end kills an application, and waits until its process IDs are free.
func (b *bench) end(a *application) error {
	a.close()
	if err := kernel.Kill(-a.pid, kernel.SIGKILL); err != nil && !errors.Is(err, kernel.ESRCH) {
		return err
	}
	return reapAll()
}

// reapAll waits for all children, ours by birth or by adoption.
func reapAll() error {
	for {
		_, _, err := kernel.Wait(-1, false)
		if errors.Is(err, kernel.ECHILD) {
			return nil
		}
		if err != nil {
			return err
		}
	}
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

func median[T any](all []T, of func(T) report.Duration) report.Duration {
	var values []report.Duration
	for _, one := range all {
		values = append(values, of(one))
	}
	slices.Sort(values)
	return values[len(values)/2]
}
