package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"

	"github.com/kup-project/kup/internal/kernel"
)

// flags are the command line.
type flags struct {
	out    string
	part   string
	only   string
	rounds int
	runs   int
}

// Parts of the evaluation.
const (
	native = "native"
	guests = "guests"
	both   = "all"
	plots  = "plots" // measures nothing, and draws what was measured before
)

func main() {
	var f flags
	flag.StringVar(&f.out, "out", "docs/bench", "`folder` for the results")
	flag.StringVar(&f.part, "part", both, "what to measure: native, guests or all; plots draws former results again")
	flag.StringVar(&f.only, "only", "", "only what matches this regular `expression`, by the names that are printed")
	flag.IntVar(&f.rounds, "rounds", 3, "how often everything native is measured")
	flag.IntVar(&f.runs, "runs", 1, "how often each update in guests is measured")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), kernel.TerminatingSignals...)
	defer stop()
	if err := f.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (f flags) run(ctx context.Context) error {
	only, err := regexp.Compile(f.only)
	if err != nil {
		return err
	}
	switch f.part {
	case native, guests, both:
	case plots:
		return redraw(f.out)
	default:
		return fmt.Errorf("-part is %s, %s, %s or %s", native, guests, both, plots)
	}
	// In memory: a disk would be measured instead of kup.
	dir, err := os.MkdirTemp("/dev/shm", "kup-bench-")
	if err != nil {
		return err
	}
	b := &bench{dir: dir, kup: filepath.Join(dir, "kup"), chosen: only.MatchString}
	if f.part != guests {
		err = f.native(ctx, b)
	}
	if err == nil && f.part != native {
		err = f.guests(ctx, b)
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// redraw makes tables and plots of former results.
func redraw(out string) error {
	var natively Results
	var updates UpdateResults
	return errors.Join(
		readJSON(out, nativeFile, &natively), natively.show(out),
		readJSON(out, updateFile, &updates), updates.show(out),
	)
}

// native measures checkpoints and restores on this machine.
func (f flags) native(ctx context.Context, b *bench) error {
	// Restored processes become ours when kup ends, and free their IDs as soon as they are reaped.
	if err := kernel.SetChildSubreaper(); err != nil {
		return err
	}
	if err := b.build(ctx); err != nil {
		return err
	}
	r, err := b.native(ctx, f.rounds)
	if err != nil {
		return err
	}
	return r.write(f.out)
}

// guests measures updates of whole machines.
func (f flags) guests(ctx context.Context, b *bench) error {
	updates, failed := b.updates(ctx, f.runs)
	if len(updates) == 0 {
		return failed
	}
	bare, err := b.bareBoots(ctx, updates)
	failed = errors.Join(failed, err)
	r, err := newUpdateResults(f.runs, updates, bare)
	if err == nil {
		err = r.write(f.out)
	}
	return errors.Join(failed, err)
}
