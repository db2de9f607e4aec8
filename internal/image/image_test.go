package image

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// write makes an image of st in a new directory and returns its path.
func write(tb testing.TB, st *State, sealed bool) string {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "image")
	w, err := NewWriter(dir)
	if err != nil {
		tb.Fatal(err)
	}
	writeContents(tb, w, st)
	if err := w.Commit(st, "test"); err != nil {
		tb.Fatal(err)
	}
	if sealed {
		if err := w.Seal(nil); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

var equal = cmp.Options{
	cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.AddrPort{}),
	// Byte by byte, as cmp does it by itself, takes seconds for registers.
	cmp.FilterValues(func(a, b []byte) bool { return len(a)+len(b) > 0 }, cmp.Comparer(bytes.Equal)),
}

func TestStateSurvivesEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st := states().Draw(t, "state")
		if err := Validate(st); err != nil {
			t.Fatalf("the generator made an invalid state: %v", err)
		}
		data, err := encodeState(st)
		if err != nil {
			t.Fatal(err)
		}
		again, err := encodeState(st)
		if err != nil || !bytes.Equal(data, again) {
			t.Fatalf("encoding twice gives different bytes (%v)", err)
		}
		got, err := decodeState(data)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(st, got, equal); diff != "" {
			t.Fatalf("decoded state differs (-written +read):\n%s", diff)
		}
	})
}

func TestImageIsReadAsWritten(t *testing.T) {
	for n := range 10 {
		st := states().Example(n)
		dir := write(t, st, n%2 == 0)
		var last, total int64
		img, err := Open(dir, WithContents(func(d, all int64) { last, total = d, all }))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(st, img.State, equal); diff != "" {
			t.Errorf("state differs (-written +read):\n%s", diff)
		}
		if last != total {
			t.Errorf("progress ended at %d of %d", last, total)
		}
		if img.Sealed() != (n%2 == 0) {
			t.Errorf("sealed: %v", img.Sealed())
		}
	}
}

func TestVerifyWantsASeal(t *testing.T) {
	dir := write(t, minimal(), false)
	if err := Verify(dir, nil); !errors.Is(err, ErrNotSealed) || !errors.Is(err, ErrNotAcceptable) {
		t.Errorf("unsealed image: %v", err)
	}
	if err := Seal(dir, nil); err != nil {
		t.Fatal(err)
	}
	if err := Verify(dir, nil); err != nil {
		t.Error(err)
	}
	if err := Seal(dir, nil); err != nil {
		t.Errorf("sealing a second time: %v", err)
	}
}

func TestEverythingIsPrivate(t *testing.T) {
	dir := write(t, minimal(), true)
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestSealPunchesWhatIsNoLongerUsed(t *testing.T) {
	st := minimal()
	dir := filepath.Join(t.TempDir(), "image")
	w, err := NewWriter(dir)
	if err != nil {
		t.Fatal(err)
	}
	writeContents(t, w, st)
	name := st.Processes[0].Memory.FOAM.Name
	f, err := os.OpenFile(w.Path(name), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// An earlier round stored a page that the last one did not list.
	if _, err := f.WriteAt([]byte("stale"), 0x300000); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Commit(st, "test"), w.Seal(nil), Verify(dir, nil)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := f.ReadAt(got, 0x300000); err != nil || !bytes.Equal(got, make([]byte, 5)) {
		t.Errorf("the stale page is still there: %q, %v", got, err)
	}
	if _, err := f.ReadAt(got, 0x401000); err != nil || bytes.Equal(got, make([]byte, 5)) {
		t.Errorf("a page in use was punched: %q, %v", got, err)
	}
}

func TestWriterRefusesWhatIsThere(t *testing.T) {
	dir := write(t, minimal(), false)
	if _, err := NewWriter(dir); !errors.Is(err, ErrExists) {
		t.Errorf("over an image: %v", err)
	}
	foreign := t.TempDir()
	os.Chmod(foreign, 0o700)
	os.WriteFile(filepath.Join(foreign, "letter"), []byte("dear"), 0o600)
	if _, err := NewWriter(foreign); !errors.Is(err, ErrExists) {
		t.Errorf("over somebody's files: %v", err)
	}
	if err := Remove(foreign); !errors.Is(err, ErrNotImage) {
		t.Errorf("removing somebody's files: %v", err)
	}
	if !exists(filepath.Join(foreign, "letter")) {
		t.Error("somebody's file is gone")
	}
	if _, err := NewWriter(filepath.Join(foreign, "no", "parent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a parent: %v", err)
	}
}

func TestTwoWritersDoNotMeet(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "image")
	w, err := NewWriter(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewWriter(dir); !errors.Is(err, ErrBusy) {
		t.Errorf("second writer: %v", err)
	}
	if err := Remove(dir); !errors.Is(err, ErrBusy) {
		t.Errorf("removing under a writer: %v", err)
	}
	if err := w.Abort(); err != nil {
		t.Error(err)
	}
	if exists(dir) {
		t.Error("Abort left the directory")
	}
}

func TestAbortLeavesADirectoryThatWasThere(t *testing.T) {
	dir := t.TempDir()
	os.Chmod(dir, 0o700)
	w, err := NewWriter(dir)
	if err != nil {
		t.Fatal(err)
	}
	writeContents(t, w, minimal())
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestAbortAfterCommitKeepsTheImage(t *testing.T) {
	st := minimal()
	dir := filepath.Join(t.TempDir(), "image")
	w, err := NewWriter(dir)
	if err != nil {
		t.Fatal(err)
	}
	writeContents(t, w, st)
	if err := errors.Join(w.Commit(st, "test"), w.Abort()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err != nil {
		t.Error(err)
	}
	if err := Remove(dir); err != nil || exists(dir) {
		t.Errorf("Remove: %v", err)
	}
}

func TestCommitRefusesInconsistentStates(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*State, *Writer)
		want  string
	}{
		"no live process": {func(s *State, _ *Writer) { s.Processes[0].State = Zombie }, "no live process"},
		"missing file":    {func(_ *State, w *Writer) { os.Remove(w.Path("deleted-1")) }, "missing"},
		"stray file":      {func(_ *State, w *Writer) { os.WriteFile(w.Path("stray"), nil, 0o600) }, "stray"},
		"short FOAM":      {func(_ *State, w *Writer) { os.Truncate(w.Path("pages-4711.foam"), 4096) }, "windows end"},
	} {
		t.Run(name, func(t *testing.T) {
			st := minimal()
			dir := filepath.Join(t.TempDir(), "image")
			w, err := NewWriter(dir)
			if err != nil {
				t.Fatal(err)
			}
			writeContents(t, w, st)
			c.spoil(st, w)
			if err := w.Commit(st, "test"); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Commit: %v", err)
			}
			if _, err := Open(dir); !errors.Is(err, ErrIncomplete) {
				t.Errorf("Open: %v", err)
			}
			if err := w.Abort(); err != nil || exists(dir) {
				t.Errorf("Abort: %v", err)
			}
		})
	}
}
