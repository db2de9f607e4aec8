package vm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// BuildInit builds the guests' init from this repository, a static program.
func BuildInit(ctx context.Context, out string) error {
	return BuildProgram(ctx, "./cmd/guest-init", out)
}

// BuildProgram builds a static Go program of this repository, package given as ./cmd/kup. Guests that are to see the same
// file under several kernels must get the same build.
func BuildProgram(ctx context.Context, pkg, out string) error {
	root, err := repository()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w: %s", pkg, err, strings.TrimSpace(string(text)))
	}
	return nil
}
