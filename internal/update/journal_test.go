package update

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// begun makes the journal of an update that is in its beginnings.
func begun(t *testing.T) *Journal {
	t.Helper()
	dir := t.TempDir()
	lock, err := lockUpdates(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	j, err := newJournal(dir, "6.12.117")
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// imageOf makes something that passes for an image, complete or not.
func imageOf(t *testing.T, j *Journal, name string) string {
	t.Helper()
	dir := filepath.Join(j.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest.partial"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestJournalIsReadAsItWasWritten(t *testing.T) {
	j := begun(t)
	if none, err := ReadJournal(j.dir); none != nil || err != nil {
		t.Fatalf("before the first record: %+v, %v", none, err)
	}
	j.Applications = []Application{{Name: "cache", PID: 1003, Image: "/images/cache/1"}, {Name: "db", PID: 1010, Image: "/images/db/4", Error: "no"}}
	j.stamp(Stamp{What: "frozen", Wall: time.Unix(1234567890, 5).UTC(), Uptime: 17 * time.Second})
	for _, p := range []Phase{Prepared, Frozen, Switched, Restoring, Settled, Aborted} {
		if err := j.record(p); err != nil {
			t.Fatal(err)
		}
		got, err := ReadJournal(j.dir)
		if err != nil {
			t.Fatal(err)
		}
		if got.Phase != p {
			t.Errorf("phase %q was read as %q", p, got.Phase)
		}
		if diff := cmp.Diff(j, got, cmpopts.IgnoreUnexported(Journal{})); diff != "" {
			t.Errorf("written and read differ: %s", diff)
		}
	}
}

func TestUnreadableJournalsAreLeftAlone(t *testing.T) {
	for name, text := range map[string]string{"damaged": `{"format": 1, "pha`, "future": `{"format": 2}`, "empty": ""} {
		t.Run(name, func(t *testing.T) {
			j := begun(t)
			if err := os.WriteFile(JournalPath(j.dir), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := ReadJournal(j.dir); !errors.Is(err, ErrJournal) {
				t.Errorf("ReadJournal: %v, want ErrJournal", err)
			}
			if err := clearUp(j.dir); !errors.Is(err, ErrJournal) {
				t.Errorf("clearUp: %v, want ErrJournal", err)
			}
			if kept, err := os.ReadFile(JournalPath(j.dir)); err != nil || string(kept) != text {
				t.Errorf("the journal became %q, %v", kept, err)
			}
		})
	}
}

// What a killed update has left is removed only when nobody can need it any more.
func TestClearUpKeepsWhatWaitsToBeRestored(t *testing.T) {
	for _, tt := range []struct {
		phase     Phase
		elsewhere bool
		keeps     bool
		fails     string
		after     Phase
	}{
		{Prepared, false, false, "", Aborted},
		{Prepared, true, false, "", Aborted},
		{Frozen, false, false, "", Aborted},
		{Frozen, true, false, "", Aborted},
		{Switched, false, false, "", Aborted},
		{Switched, true, true, "kup boot", Switched},
		{Restoring, true, true, "", Restoring},
		{Settled, true, true, "", Settled},
		{Aborted, false, true, "", Aborted},
	} {
		t.Run(string(tt.phase), func(t *testing.T) {
			j := begun(t)
			dir := imageOf(t, j, "image")
			j.Applications = []Application{{Name: "cache", Image: dir}, {Name: "db", Image: dir + "-never-begun"}}
			if tt.elsewhere {
				j.Boot = "a boot of long ago"
			}
			if err := j.record(tt.phase); err != nil {
				t.Fatal(err)
			}
			err := clearUp(j.dir)
			if (err != nil) != (tt.fails != "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("clearUp: %v, want %q", err, tt.fails)
			}
			if _, err := os.Stat(dir); (err == nil) != tt.keeps {
				t.Errorf("image: %v; want kept: %v", err, tt.keeps)
			}
			now, err := ReadJournal(j.dir)
			if err != nil || now.Phase != tt.after {
				t.Errorf("journal: %+v, %v; want phase %s", now, err, tt.after)
			}
		})
	}
}

func TestOnlyOneUpdateAtATime(t *testing.T) {
	j := begun(t)
	if _, err := lockUpdates(j.dir); !errors.Is(err, ErrUpdating) {
		t.Errorf("second lock: %v, want ErrUpdating", err)
	}
}

func TestNextCommandLine(t *testing.T) {
	for _, tt := range []struct{ running, more, want string }{
		{"console=ttyS0 quiet\n", "", "console=ttyS0 quiet"},
		{"BOOT_IMAGE=/vmlinuz-6.1 root=/dev/sda1 ro initrd=/initrd.img quiet\n", "nosmt", "root=/dev/sda1 ro quiet nosmt"},
		{"\n", "a b", "a b"},
		{`dyndbg="file a.c +p" x`, "", `dyndbg="file a.c +p" x`},
	} {
		if got := nextCommandLine(tt.running, tt.more); got != tt.want {
			t.Errorf("nextCommandLine(%q, %q) = %q, want %q", tt.running, tt.more, got, tt.want)
		}
	}
}
