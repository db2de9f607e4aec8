package test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/kernel"
)

// Exit codes of kup, as its manual documents them.
const (
	exitDone       = 0
	exitFailed     = 1
	exitUsage      = 2
	exitRefused    = 3
	exitUnusable   = 4               // the image is not acceptable
	exitConflict   = 5               // a pid or an address is taken
	exitStopped    = 6               // by a signal
	kupTimeout     = 3 * time.Minute // only what hangs reaches it, whatever else the machine has to do
	checkpointsRow = 3
)

type result struct {
	code   int
	output string
}

// kup runs the command line tool, and again if it was itself given an ID that the application needs.
func kup(t *testing.T, args ...string) result {
	t.Helper()
	for {
		if r := kupOnce(t, args...); !strings.Contains(r.output, "run the command again") {
			return r
		}
	}
}

// kupOnce runs it once. Output goes through a file: a pipe would wait for whoever inherited it.
func kupOnce(t *testing.T, args ...string) result {
	t.Helper()
	binary := buildKup(t)
	output, err := os.CreateTemp(scratch, "kup-output-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(output.Name())
	defer output.Close()
	ctx, cancel := context.WithTimeout(context.Background(), kupTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Stdout, cmd.Stderr = output, output
	// One that hangs says where before it ends.
	cmd.Cancel = func() error { return kernel.Kill(cmd.Process.Pid, kernel.SIGQUIT) }
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	text, readErr := os.ReadFile(output.Name())
	if readErr != nil {
		t.Fatal(readErr)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("kup %s: not within %v\n%s", strings.Join(args, " "), kupTimeout, text)
	}
	return result{cmd.ProcessState.ExitCode(), string(text)}
}

// kupDone runs kup and fails the test unless it succeeds.
func kupDone(t *testing.T, args ...string) {
	t.Helper()
	if r := kup(t, args...); r.code != exitDone {
		t.Fatalf("kup %s: exit code %d\n%s", strings.Join(args, " "), r.code, r.output)
	}
}

// image returns a path for a new image of p, in a directory where nothing else lies.
func (p *program) image(t *testing.T) string {
	t.Helper()
	where := p.images
	if where == "" {
		where = p.dir
	}
	parent, err := os.MkdirTemp(where, "images-")
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(parent, "image")
}

// checkpoint ends the tree once its image is complete. With leave it runs on. More flags of kup may follow.
func (p *program) checkpoint(t *testing.T, leave bool, flags ...string) (image string, r result) {
	t.Helper()
	image = p.image(t)
	args := append([]string{"checkpoint", "--pid", strconv.Itoa(p.pid), "--dir", image}, flags...)
	if leave {
		args = append(args, "--leave-running")
	}
	p.processes = tree(p.pid)
	r = kup(t, args...)
	if r.code == exitDone && !leave {
		// Children born just before the freeze are in nobody's list.
		gone(t, append(p.processes, tree(p.pid)...))
	}
	noLeftovers(t, image, r.code == exitDone)
	return image, r
}

// noLeftovers verifies that beside the image itself nothing lies in its parent directory.
func noLeftovers(t *testing.T, image string, exists bool) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(image))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !exists || e.Name() != filepath.Base(image) {
			t.Errorf("checkpoint left %s behind", filepath.Join(filepath.Dir(image), e.Name()))
		}
	}
	if exists && len(entries) == 0 {
		t.Errorf("checkpoint succeeded but left no image at %s", image)
	}
}

// restore brings the tree back from image and leaves it some time to run.
func (p *program) restore(t *testing.T, image string) {
	t.Helper()
	kupDone(t, "restore", "--dir", image)
	time.Sleep(200 * time.Millisecond)
	p.check(t)
}

// nftTables lists the tables of the packet filter.
func nftTables(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("nft", "list", "tables").CombinedOutput()
	if err != nil {
		t.Fatalf("nft list tables: %v\n%s", err, out)
	}
	return string(out)
}
