// Package vmtest starts guests for tests: what is missing fails the test, and all ends with it.
package vmtest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kup-project/kup/internal/vm"
)

// Kernel is the newest kernel of a line, as "6.1".
func Kernel(t *testing.T, line string) vm.Kernel {
	t.Helper()
	k, err := vm.FindKernel(line)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Build builds a static program of this repository, as "./cmd/kup", and gives its path.
func Build(t *testing.T, pkg string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), filepath.Base(pkg))
	if err := vm.BuildProgram(t.Context(), pkg, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// Initramfs writes an initramfs and gives its path. Where Init is empty it is built.
func Initramfs(t *testing.T, i vm.Initramfs) string {
	t.Helper()
	if i.Init == "" {
		i.Init = Build(t, "./cmd/guest-init")
	}
	path := filepath.Join(t.TempDir(), "initrd-"+i.Kernel.Release)
	if err := i.Write(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Disk creates a disk, see vm.CreateDisk, and gives its path.
func Disk(t *testing.T, megabytes int, from string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.ext4")
	if err := vm.CreateDisk(t.Context(), path, megabytes, from); err != nil {
		t.Fatal(err)
	}
	return path
}

// Shell returns what a shell command in a guest prints, without white space around it. The command must succeed.
func Shell(t *testing.T, g *vm.Guest, command string) string {
	t.Helper()
	out, err := g.Output(t.Context(), "sh", "-c", command)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(out)
}

// Net makes a network that the test's end closes.
func Net(t *testing.T) *vm.Net {
	t.Helper()
	n, err := vm.NewNet()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close the guest's network: %v", err)
		}
	})
	return n
}

// Start boots a guest that the test's end closes. Trouble in its start-up fails the test. Where c.Log is empty, the console is
// logged to a temporary file; a failed test shows its end.
func Start(t *testing.T, c vm.Config) *vm.Guest {
	t.Helper()
	if c.Log == "" {
		c.Log = filepath.Join(t.TempDir(), "console.log")
	}
	g, err := vm.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Close()
		if t.Failed() {
			showEnd(t, c.Log)
		}
	})
	if err := g.Retried(); err != nil {
		t.Logf("a second attempt was needed: %v", err)
	}
	// Not the test's context: that has ended when a cleanup asks.
	boot, err := g.WaitBoot(context.Background(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if boot.Trouble != "" {
		t.Fatalf("guest with %s: start-up: %s", boot.Release, boot.Trouble)
	}
	return g
}

func showEnd(t *testing.T, log string) {
	text, err := os.ReadFile(log)
	if err != nil {
		t.Error(err)
		return
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	t.Logf("console, last lines:\n%s", strings.Join(lines[max(0, len(lines)-60):], "\n"))
}
