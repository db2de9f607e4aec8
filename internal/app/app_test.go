package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/kernel"
)

func newStore(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// start starts a detached application, which is killed with the test.
func start(t *testing.T, s *Store, name string) *Process {
	t.Helper()
	p, err := s.Start(Spec{Name: name, Argv: []string{"sleep", "1000"}, Detached: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, p) })
	return p
}

func end(t *testing.T, p *Process) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err == nil {
		p.cmd.Wait()
	} else if !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
}

func TestStoreIsChosen(t *testing.T) {
	t.Setenv(DirVariable, "/by/environment")
	for _, test := range []struct{ dir, want string }{{"/by/flag", "/by/flag"}, {"", "/by/environment"}} {
		if s, err := Open(test.dir); err != nil || s.Dir() != test.want {
			t.Errorf("Open(%q): %v, %v; want %s", test.dir, s, err, test.want)
		}
	}
	t.Setenv(DirVariable, "")
	if s, err := Open(""); err != nil || s.Dir() != DefaultDir {
		t.Errorf("Open(): %v, %v; want %s", s, err, DefaultDir)
	}
}

func TestNames(t *testing.T) {
	for name, good := range map[string]bool{
		"cache": true, "a": true, "web-1.2_x@y": true, "7": true, strings.Repeat("x", 64): true,
		"": false, ".hidden": false, "-v": false, "a/b": false, "a b": false, "..": false, "é": false, "a\n": false, strings.Repeat("x", 65): false,
	} {
		if err := CheckName(name); (err == nil) != good {
			t.Errorf("CheckName(%q): %v", name, err)
		}
	}
}

func TestNameComesFromTheProgram(t *testing.T) {
	s := newStore(t)
	for _, test := range []struct{ program, name string }{
		{"/usr/bin/memcached", "memcached"}, {"./.hidden", "hidden"}, {"a b", "a-b"}, {"[", "app"}, {"/x/..", "app"},
	} {
		if name, err := s.chooseName(Spec{Argv: []string{test.program}}); err != nil || name != test.name {
			t.Errorf("%q: %q, %v; want %q", test.program, name, err, test.name)
		}
	}
	if _, err := s.chooseName(Spec{}); err == nil {
		t.Error("a name was found for no program")
	}
}

func TestLifeOfAnApplication(t *testing.T) {
	s := newStore(t)
	p := start(t, s, "x")
	check := func(want State) {
		t.Helper()
		all, err := s.Status()
		if err != nil || len(all) != 1 || all[0].State != want {
			t.Fatalf("%+v, %v; want state %s", all, err, want)
		}
	}
	check(Running)
	if p.PID <= kernel.ReservedIDs {
		t.Errorf("pid %d is one of the reserved", p.PID)
	}
	if name, found, err := s.ByPID(p.PID); name != "x" || !found || err != nil {
		t.Errorf("ByPID: %q, %v, %v", name, found, err)
	}
	if err := kernel.Kill(p.PID, kernel.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { st, ok := stat(p.Record); return ok && st.State == 'T' })
	check(Stopped)

	l, err := s.Lock("x")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Unlock()
	if pid, err := l.Root(); pid != p.PID || err != nil {
		t.Errorf("Root: %d, %v", pid, err)
	}
	if _, err := l.Restoring(); !errors.Is(err, ErrRunning) {
		t.Errorf("Restoring what runs: %v", err)
	}
	end(t, p)
	check(Ended)
	if _, err := l.Root(); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Root of what has ended: %v", err)
	}
	if _, err := l.Restoring(); !errors.Is(err, ErrNoImage) {
		t.Errorf("Restoring without an image: %v", err)
	}
	if err := l.Captured("/image", true); err != nil {
		t.Fatal(err)
	}
	check(Checkpointed)
	if name, found, err := s.ByImage("/image"); name != "x" || !found || err != nil {
		t.Errorf("ByImage: %q, %v, %v", name, found, err)
	}
	if dir, err := l.Restoring(); dir != "/image" || err != nil {
		t.Fatalf("Restoring: %q, %v", dir, err)
	}
	check(Restoring)
	// The kup that restores dies.
	l.Unlock()
	check(Checkpointed)
}

// eventually waits for what must happen soon.
func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
	}
}

func TestAReusedPIDIsNotMistaken(t *testing.T) {
	s := newStore(t)
	p := start(t, s, "x")
	for what, change := range map[string]func(*Record){
		"another start time": func(r *Record) { r.Start++ },
		"another boot":       func(r *Record) { r.Boot = "00000000-0000-0000-0000-000000000000" },
		"no pid":             func(r *Record) { r.PID = 0 },
	} {
		r := *p.Record
		if !Alive(&r) {
			t.Fatal("it is not alive")
		}
		change(&r)
		if Alive(&r) || Look(&r).State != Ended {
			t.Errorf("with %s it is still taken for the same", what)
		}
	}
}

func TestStartAgain(t *testing.T) {
	s := newStore(t)
	first := start(t, s, "x")
	l, err := s.Lock("x")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Unlock()
	if _, err := l.StartAgain(); !errors.Is(err, ErrRunning) {
		t.Errorf("starting what runs: %v", err)
	}
	end(t, first)
	second, err := l.StartAgain()
	if err != nil {
		t.Fatal(err)
	}
	defer end(t, second)
	if !slices.Equal(second.Argv, first.Argv) || !slices.Equal(second.Env, first.Env) || second.Cwd != first.Cwd || second.Log != first.Log {
		t.Errorf("it was %+v and is %+v", first.Record, second.Record)
	}
	if !Alive(l.Record) || l.PID != second.PID {
		t.Error("the new process was not recorded")
	}
}

func TestLocksExclude(t *testing.T) {
	s := newStore(t)
	start(t, s, "x")
	l, err := s.Lock("x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lock("x"); !errors.Is(err, ErrBusy) {
		t.Errorf("locked twice: %v", err)
	}
	if _, err := s.Remove("x"); !errors.Is(err, ErrBusy) {
		t.Errorf("removed while locked: %v", err)
	}
	l.Unlock()
	l.Unlock()
	if _, err := s.Lock("y"); !errors.Is(err, ErrUnknown) {
		t.Errorf("locked what is not there: %v", err)
	}
}

// TestOneOfManyGetsTheName starts one name many times at once.
func TestOneOfManyGetsTheName(t *testing.T) {
	s := newStore(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var started []*Process
	for range 8 {
		wg.Go(func() {
			p, err := s.Start(Spec{Name: "x", Argv: []string{"sleep", "1000"}, Detached: true})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				started = append(started, p)
			case !errors.Is(err, ErrExists) && !errors.Is(err, ErrBusy):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, p := range started {
		end(t, p)
	}
	if len(started) != 1 {
		t.Errorf("%d were started", len(started))
	}
}

func TestDamagedRecord(t *testing.T) {
	s := newStore(t)
	end(t, start(t, s, "x"))
	if err := os.WriteFile(s.recordPath("x"), []byte(`{"name":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load("x"); err == nil || !strings.Contains(err.Error(), "kup rm x") {
		t.Errorf("Load: %v", err)
	}
	if _, err := s.Remove("x"); err != nil {
		t.Error(err)
	}
	if _, err := s.Load("x"); !errors.Is(err, ErrUnknown) {
		t.Errorf("Load after Remove: %v", err)
	}
}

func TestImagesAreNumbered(t *testing.T) {
	s := newStore(t)
	var newest string
	for n := 1; n <= 3; n++ {
		dir, err := s.NextImageDir("x")
		if err != nil {
			t.Fatal(err)
		}
		if want := filepath.Join(s.ImagesDir("x"), fmt.Sprint(n)); dir != want {
			t.Fatalf("image %d goes to %s, want %s", n, dir, want)
		}
		// What a writer leaves that was killed.
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "manifest.partial"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		newest = dir
	}
	if err := s.DropOlderImages("x", "/elsewhere"); err != nil {
		t.Fatal(err)
	}
	if err := s.DropOlderImages("x", newest); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(s.ImagesDir("x"))
	if err != nil || len(entries) != 1 || entries[0].Name() != "3" {
		t.Errorf("left are %v, %v", entries, err)
	}
}
