package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"

	"github.com/kup-project/kup/internal/kernel"
)

func main() {
	rounds := flag.Int("rounds", 3, "how often everything is measured")
	out := flag.String("out", "docs/bench", "folder for the results")
	only := flag.String("only", "", "only the subjects that match this regular expression")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *rounds, *out, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds int, out, only string) error {
	chosen, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	// Restored processes become ours when kup ends, and free their IDs as soon as they are reaped.
	if err := kernel.SetChildSubreaper(); err != nil {
		return err
	}
	// In memory: a disk would be measured instead of kup.
	dir, err := os.MkdirTemp("/dev/shm", "kup-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir, kup: filepath.Join(dir, "kup")}
	if err := b.build(ctx); err != nil {
		return err
	}
	results, err := newResults(rounds)
	if err != nil {
		return err
	}
	for _, s := range subjects() {
		if !chosen.MatchString(s.name) {
			continue
		}
		fmt.Printf("%s:\n", s.name)
		m, err := b.measure(ctx, s, rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		results.Subjects = append(results.Subjects, m)
		fmt.Print(m.lines())
	}
	return results.write(out)
}
