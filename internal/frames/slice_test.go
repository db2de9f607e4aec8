package frames

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kup-project/kup/internal/kexec"
)

func TestEasyBlocksComeFirst(t *testing.T) {
	b := func(number uint64, c census) block {
		return block{Range: kexec.Range{Start: number, End: number + 1}, census: c}
	}
	blocks := []block{
		b(1, census{fixed: 1, used: 10}), b(2, census{used: 900}), b(3, census{used: 30}), b(4, census{fixed: 7, used: 7}), b(5, census{used: 30}),
	}
	slices.SortStableFunc(blocks, easier)
	var order []uint64
	for _, b := range blocks {
		order = append(order, b.Start)
	}
	if diff := cmp.Diff([]uint64{3, 5, 2, 4, 1}, order); diff != "" {
		t.Error(diff)
	}
}

func TestCensus(t *testing.T) {
	var c census
	for _, flags := range []uint64{
		flagBuddy, 0, flagLRU | flagMapped | flagAnonymous, flagHuge | flagCompoundTail, flagHugeTLB | flagCompoundHead | flagAnonymous, flagSlab, flagCompoundTail, flagReserved,
	} {
		c.add(flags)
	}
	if want := (census{fixed: 3, pool: 1, used: 7}); c != want {
		t.Errorf("%+v, want %+v", c, want)
	}
}

func TestTroubleIsCounted(t *testing.T) {
	for _, tt := range []struct {
		trouble trouble
		want    string
	}{
		{nil, "none"},
		{trouble{1: "with holes", 5: "offline already", 7: "with holes"}, "1 offline already; 2 with holes"},
	} {
		if got := tt.trouble.String(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

// TestQuietIsTakenBack works on files that stand for the kernel's.
func TestQuietIsTakenBack(t *testing.T) {
	files, dir := t.TempDir(), filepath.Join(t.TempDir(), "state")
	file := func(name string) string { return filepath.Join(files, name) }
	write := func(name, text string) {
		t.Helper()
		if err := writeText(file(name), text); err != nil {
			t.Fatal(err)
		}
	}
	contents := func() string {
		t.Helper()
		var all []string
		for _, name := range []string{"number", "choice", "same", "alike"} {
			text, err := os.ReadFile(file(name))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, strings.TrimSpace(string(text)))
		}
		return strings.Join(all, ", ")
	}
	for name, text := range map[string]string{"number": "60\n", "choice": "[always] madvise never\n", "same": "0\n", "alike": "2\n"} {
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	settings := []setting{{file("number"), "0", ""}, {file("choice"), "never", ""}, {file("same"), "0", ""}, {file("alike"), "0", "2"}, {file("missing"), "0", ""}}
	const loud, quiet = "60, always, 0, 2", "0, never, 0, 2"

	q, err := quieten(dir, settings)
	if err != nil {
		t.Fatal(err)
	}
	if got := contents(); got != quiet {
		t.Errorf("quiet: %s", got)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if got := contents(); got != loud {
		t.Errorf("after Close: %s", got)
	}

	// One that was left behind is taken back by Recover, and by whoever comes next.
	for _, again := range []func() error{
		func() error { return Recover(dir) },
		func() error {
			l, err := newLedger(dir, quietLedger)
			if err != nil || len(l.Entries) > 0 {
				t.Errorf("%+v", l)
			}
			return err
		},
	} {
		write("choice", "[always] madvise never")
		if _, err := quieten(dir, settings); err != nil {
			t.Fatal(err)
		}
		if err := again(); err != nil {
			t.Fatal(err)
		}
		if got := contents(); got != loud {
			t.Errorf("after recovery: %s", got)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
	if err := Recover(dir); err != nil {
		t.Errorf("with nothing to recover: %v", err)
	}
}

// TestOtherBootsAreForgotten: a reboot has taken back everything.
func TestOtherBootsAreForgotten(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "setting")
	if err := os.WriteFile(file, []byte("0"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := newLedger(dir, quietLedger)
	if err != nil {
		t.Fatal(err)
	}
	l.Boot = "another"
	if err := l.add(file, "60"); err != nil {
		t.Fatal(err)
	}
	if err := Recover(dir); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "0" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(dir, quietLedger)); !os.IsNotExist(err) {
		t.Errorf("the record is still there: %v", err)
	}
}

// TestWhatCannotBeTakenBackStaysKnown loses a file and gets it again.
func TestWhatCannotBeTakenBackStaysKnown(t *testing.T) {
	dir, gone, there := t.TempDir(), filepath.Join(t.TempDir(), "a", "gone"), filepath.Join(t.TempDir(), "there")
	l, err := newLedger(dir, sliceLedger)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{gone, there} {
		if err := l.add(path, "1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Recover(dir); err == nil || !strings.Contains(err.Error(), gone) {
		t.Errorf("recovery: %v", err)
	}
	if err := os.Mkdir(filepath.Dir(gone), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(gone, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Recover(dir); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(gone); err != nil || string(text) != "1" {
		t.Errorf("%q, %v", text, err)
	}
}
