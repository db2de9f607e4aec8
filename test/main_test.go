package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kup-project/kup/internal/kernel"
)

// scratch holds everything the tests write: programs, logs, images. Its path is in every test process's arguments,
// which is how members finds what is left of a row.
var scratch string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests checkpoint processes and must run as root")
		return 1
	}
	// Orphans come to the harness: what kup restored can be waited for, and what a killed tree leaves is reaped.
	if err := kernel.SetChildSubreaper(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// A pipe of whoever started the tests is not the programs' business, and would be refused.
	if err := kernel.KeepFromChildren(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var err error
	if scratch, err = os.MkdirTemp("", "kup-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(scratch)
	// Programs that give up root still look for their finish file.
	if err := os.Chmod(scratch, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// built remembers the outcome of each build, so that rows of one program share it.
var built sync.Map // target path -> func() error

func build(t *testing.T, target, command string, args ...string) string {
	t.Helper()
	path := filepath.Join(scratch, "bin", target)
	once, _ := built.LoadOrStore(path, sync.OnceValue(func() error {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		out, err := exec.Command(command, append(args, "-o", path)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s %s: %w\n%s", command, strings.Join(args, " "), err, out)
		}
		return nil
	}))
	if err := once.(func() error)(); err != nil {
		t.Fatal(err)
	}
	return path
}

// buildC compiles programs/SOURCE.c and returns the program's path.
func buildC(t *testing.T, source string, flags ...string) string {
	t.Helper()
	args := append([]string{"-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", filepath.Join("programs", source+".c")}, flags...)
	return build(t, strings.ReplaceAll(source, "/", "-")+strings.Join(flags, ""), "gcc", args...)
}

// buildGo compiles the Go package programs/SOURCE and returns the program's path. Like kup itself it has no C in it.
func buildGo(t *testing.T, source string) string {
	t.Helper()
	return build(t, strings.ReplaceAll(source, "/", "-"), "env", "CGO_ENABLED=0", "sh", "-c",
		`dir=$1; shift; exec go build "$@" "$dir"`, "sh", "./programs/"+source)
}

// buildKup compiles kup, unless KUP_BINARY names one.
func buildKup(t *testing.T) string {
	t.Helper()
	if binary := os.Getenv("KUP_BINARY"); binary != "" {
		return binary
	}
	return build(t, "kup", "env", "CGO_ENABLED=0", "sh", "-c", `exec go build "$@" ../cmd/kup`, "sh")
}
