package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/kup-project/kup/internal/kernel"
)

// patience bounds every wait for the application.
const patience = time.Minute

// bench is one run.
type bench struct {
	dir    string                 // in memory
	kup    string                 // the program
	chosen func(name string) bool // whether that is to be measured
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

func median[T any, V cmp.Ordered](all []T, of func(T) V) V {
	var values []V
	for _, one := range all {
		values = append(values, of(one))
	}
	slices.Sort(values)
	return values[len(values)/2]
}
