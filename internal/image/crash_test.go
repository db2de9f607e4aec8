package image

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kup-project/kup/internal/kernel"
)

// A run of this test binary with crashDir set is a kup that writes an image there and is killed at the step that crashAt names, or
// removes the image there and is killed.
const (
	crashDir = "KUP_TEST_CRASH_DIR"
	crashAt  = "KUP_TEST_CRASH_AT"
	crashIn  = "KUP_TEST_CRASH_IN" // "write" or "remove"
)

func TestMain(m *testing.M) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	reach := func(step string) {
		if step == os.Getenv(crashAt) {
			kernel.Kill(os.Getpid(), 9)
			select {}
		}
	}
	var err error
	if os.Getenv(crashIn) == "remove" {
		err = remove(dir, reach)
	} else {
		err = writeSteps(dir, reach)
	}
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	os.Exit(0)
}

// writeSteps writes and seals an image.
func writeSteps(dir string, reach func(string)) error {
	st := minimal()
	w, err := newWriter(dir, reach)
	if err != nil {
		return err
	}
	foam := st.Processes[0].Memory.FOAM
	f, err := w.Create(foam.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	reach("contents begun")
	if err := f.Truncate(foam.FileSize()); err != nil {
		return err
	}
	for _, r := range foam.runs() {
		if _, err := f.WriteAt(page(foam.Name, r.Start), int64(r.Start)); err != nil {
			return err
		}
	}
	if err := os.WriteFile(w.Path("deleted-1"), []byte("bytes"), 0o600); err != nil {
		return err
	}
	reach("contents written")
	if err := w.Commit(st, "test"); err != nil {
		return err
	}
	return w.Seal(nil)
}

// crash runs a kup that is killed at a step, and fails the test if it was not.
func crash(t *testing.T, what, dir, step string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+dir, crashAt+"="+step, crashIn+"="+what)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Fatalf("it was to be killed at %q: %v\n%s", step, err, out)
	}
}

// TestKilledWriterLeavesNothingRestorable kills the writer at each of its steps. Before the manifest is in place there must be no
// image; from then on there must be a whole one.
func TestKilledWriterLeavesNothingRestorable(t *testing.T) {
	var steps []string
	if err := writeSteps(filepath.Join(t.TempDir(), "image"), func(step string) { steps = append(steps, step) }); err != nil {
		t.Fatal(err)
	}
	committed := slices.Index(steps, "manifest in place")
	if len(steps) < 15 || committed < 0 {
		t.Fatalf("the steps are %q", steps)
	}
	for i, step := range steps {
		t.Run(strings.ReplaceAll(step, " ", "-"), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "image")
			crash(t, "write", dir, step)
			if i < committed {
				checkNoImage(t, dir)
				return
			}
			if _, err := Open(dir, WithContents(nil)); err != nil {
				t.Errorf("Open: %v", err)
			}
			if err := errors.Join(Seal(dir, nil), Verify(dir, nil)); err != nil {
				t.Errorf("sealing what was left: %v", err)
			}
			if err := Remove(dir); err != nil || exists(dir) {
				t.Errorf("Remove: %v", err)
			}
		})
	}
}

// checkNoImage checks that what was left cannot be opened and can be written over or removed.
func checkNoImage(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir)
	if want := incompleteOrNone(left); !errors.Is(err, want) {
		t.Errorf("Open: %v; it should match %q", err, want)
	}
	if len(left) > 0 {
		if err := Remove(dir); err != nil || exists(dir) {
			t.Errorf("Remove: %v", err)
		}
		return
	}
	if err := errors.Join(writeSteps(dir, func(string) {}), Verify(dir, nil)); err != nil {
		t.Errorf("writing a second time: %v", err)
	}
}

func incompleteOrNone(left []os.DirEntry) error {
	if len(left) == 0 {
		return ErrNotImage
	}
	return ErrIncomplete
}

func TestLeftoverIsWrittenOver(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "image")
	crash(t, "write", dir, "manifest half written")
	if err := writeSteps(dir, func(string) {}); err != nil {
		t.Fatal(err)
	}
	if err := Verify(dir, nil); err != nil {
		t.Error(err)
	}
}

// TestKilledRemovalLeavesNothingHalf kills the removal at each of its steps: there is a whole image or none, and a second removal
// finishes the work.
func TestKilledRemovalLeavesNothingHalf(t *testing.T) {
	var steps []string
	if err := remove(write(t, minimal(), true), func(step string) { steps = append(steps, step) }); err != nil {
		t.Fatal(err)
	}
	if len(steps) < 6 {
		t.Fatalf("the steps are %q", steps)
	}
	for i, step := range steps {
		t.Run(strings.ReplaceAll(step, " ", "-"), func(t *testing.T) {
			dir := write(t, minimal(), true)
			crash(t, "remove", dir, step)
			if i < slices.Index(steps, "manifest removed") {
				if err := Verify(dir, nil); err != nil {
					t.Errorf("Verify: %v", err)
				}
			} else {
				left, err := os.ReadDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := Open(dir); !errors.Is(err, incompleteOrNone(left)) {
					t.Errorf("Open: %v", err)
				}
				if len(left) == 0 {
					return
				}
			}
			if err := Remove(dir); err != nil || exists(dir) {
				t.Errorf("Remove: %v", err)
			}
		})
	}
}
