package test

import (
	"path/filepath"
	"testing"
	"time"
)

// row is one program and what it needs around it.
type row struct {
	name   string
	source string // programs/SOURCE.c; with its ending for a script; the package for Go
	golang bool
	flags  []string // for the compiler
	// either: a clear refusal with the program untouched is as good as a faithful restore.
	either bool
	// restless programs change their maps or descriptors all the time, so that portraits cannot be compared.
	restless bool
	// prepare sets up what the program needs of the machine.
	prepare func(*testing.T)
	// peer plays the other end, outside of the tree. It talks to the program before that is ready, so it is the one to
	// wait for it; it returns what to call before the last checks. What a peer holds has seen the first restored run,
	// so such rows have no second restore.
	peer func(*testing.T, *program) func()
}

// modes are what happens to a program between its "ready" and its end.
var modes = []struct {
	name string
	run  func(*testing.T, row)
}{
	{"untouched", runUntouched},
	{"continue", runContinue},
	{"fork", runFork},
	{"restore", func(t *testing.T, r row) { runRestore(t, r, 1) }},
	{"demand", runOnDemand},
	{"twice", func(t *testing.T, r row) { runRestore(t, r, 2) }},
}

func TestTable(t *testing.T) {
	tables := nftTables(t)
	t.Run("rows", func(t *testing.T) {
		for _, r := range table() {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()
				if r.prepare != nil {
					r.prepare(t)
				}
				for _, m := range modes {
					if m.name == "twice" && r.peer != nil {
						continue
					}
					t.Run(m.name, func(t *testing.T) { m.run(t, r) })
				}
			})
		}
	})
	if after := nftTables(t); after != tables {
		t.Errorf("packet filter tables are left behind, expected %q, got %q", tables, after)
	}
}

// startRow runs the row's program and lets it check itself for a while.
func startRow(t *testing.T, r row) (p *program, stopPeer func()) {
	t.Helper()
	p = start(t, r.command(t)...)
	stopPeer = func() {}
	if r.peer != nil {
		stopPeer = r.peer(t, p)
	}
	p.waitReady(t)
	time.Sleep(50 * time.Millisecond)
	return p, stopPeer
}

func runUntouched(t *testing.T, r row) {
	p, stopPeer := startRow(t, r)
	time.Sleep(200 * time.Millisecond)
	stopPeer()
	p.finish(t)
}

func runContinue(t *testing.T, r row) {
	p, stopPeer := startRow(t, r)
	for range checkpointsRow {
		var before habits
		if !r.restless {
			before = observe(t, tree(p.pid))
		}
		_, result := p.checkpoint(t, true)
		if refused(t, r, result) {
			break
		}
		if !r.restless {
			sameAs(t, before, tree(p.pid))
		}
		time.Sleep(100 * time.Millisecond)
		p.check(t)
	}
	stopPeer()
	p.finish(t)
}

func runRestore(t *testing.T, r row, times int) {
	p, stopPeer := startRow(t, r)
	image, result := p.checkpoint(t, false)
	if refused(t, r, result) {
		stopPeer()
		p.finish(t)
		return
	}
	p.restore(t, image)
	for range times - 1 {
		p.end(t)
		p.restore(t, image)
	}
	stopPeer()
	p.finish(t)
}

// refused tells whether the checkpoint was refused where the row allows it; any other failure ends the test.
func refused(t *testing.T, r row, result result) bool {
	t.Helper()
	if r.either && result.code == exitRefused {
		t.Logf("refused: %s", result.output)
		return true
	}
	if result.code != exitDone {
		t.Fatalf("kup checkpoint: exit code %d\n%s", result.code, result.output)
	}
	return false
}

// command builds the row's program and returns how to call it.
func (r row) command(t *testing.T) []string {
	t.Helper()
	if r.golang {
		return []string{buildGo(t, r.source)}
	}
	if filepath.Ext(r.source) == ".sh" {
		script, err := filepath.Abs(filepath.Join("programs", r.source))
		if err != nil {
			t.Fatal(err)
		}
		return []string{"bash", script}
	}
	return []string{buildC(t, r.source, r.flags...)}
}
