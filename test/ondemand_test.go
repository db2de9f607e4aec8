package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/pageserver"
)

// runOnDemand restores a program that runs before its memory is back.
func runOnDemand(t *testing.T, r row) {
	p, stopPeer := startRow(t, r)
	image, result := p.checkpoint(t, false)
	if refused(t, r, result) {
		stopPeer()
		p.finish(t)
		return
	}
	p.restoreOnDemand(t, image)
	p.filled(t)
	stopPeer()
	p.finish(t)
}

// onDemand is what a restore on demand reports: the process ID of the page server, or 0 if there was no need of one, and how many bytes it has to fill.
type onDemand struct {
	Server int
	Left   int64
}

// restoreOnDemand brings the tree back without its memory.
func (p *program) restoreOnDemand(t *testing.T, image string) onDemand {
	t.Helper()
	r := kup(t, "restore", "--dir", image, "--on-demand", "--json")
	if r.code != exitDone {
		t.Fatalf("kup restore --on-demand: exit code %d\n%s", r.code, r.output)
	}
	var report struct{ Pages onDemand }
	if err := json.Unmarshal([]byte(r.output), &report); err != nil {
		t.Fatalf("%v\n%s", err, r.output)
	}
	return report.Pages
}

// filled waits until the last page is in, and verifies that nothing of the page server is left in the tree.
func (p *program) filled(t *testing.T) {
	t.Helper()
	eventually(t, fmt.Sprintf("the last page of pid %d", p.pid), func() bool {
		p.check(t)
		f, err := pageserver.Find(p.pid)
		if err != nil {
			t.Fatal(err)
		}
		return f == nil
	})
	eventually(t, fmt.Sprintf("the end of the page server of pid %d", p.pid), func() bool { return !slices.ContainsFunc(members(p.dir), isServer) })
	if failed, err := pageserver.Failed(p.pid); err != nil || failed != nil {
		t.Fatalf("the page server has failed: %+v %v", failed, err)
	}
	for _, pid := range tree(p.pid) {
		smaps, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
		if strings.Contains(string(smaps), " um ") {
			t.Errorf("pid %d is still watched by a userfaultfd", pid)
		}
		links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, link := range links {
			if target, _ := os.Readlink(link); target == "anon_inode:[userfaultfd]" {
				t.Errorf("%s is a userfaultfd", link)
			}
		}
	}
}

// decided waits until either the last page is in, or the application has lost its page server and was ended.
func (p *program) decided(t *testing.T) {
	t.Helper()
	eventually(t, "an outcome", func() bool {
		all, err := pageserver.List()
		if err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(all, func(f *pageserver.Filling) bool {
			return f.Failed == "" && slices.ContainsFunc(f.Processes, func(q pageserver.Process) bool { return q.PID == p.pid })
		})
	})
}

// endAll kills the tree, and those who are forked meanwhile, until none is left.
func (p *program) endAll(t *testing.T) {
	t.Helper()
	eventually(t, fmt.Sprintf("the end of all processes of pid %d", p.pid), func() bool {
		left := false
		for _, pid := range tree(p.pid) {
			_ = kernel.Kill(pid, kernel.SIGKILL)
			left = !reaped(pid) || left
		}
		return !left
	})
}

// TestRestoreOnDemandIsAllOrNothing kills kup at random instants of a restore on demand: either nothing of the application is left, page server
// included, or all of it runs, with all of its memory.
func TestRestoreOnDemandIsAllOrNothing(t *testing.T) {
	p := start(t, buildC(t, "memory/ondemand"))
	p.waitReady(t)
	image, r := p.checkpoint(t, false)
	if r.code != exitDone {
		t.Fatalf("kup checkpoint: exit code %d\n%s", r.code, r.output)
	}
	begin := time.Now()
	p.restoreOnDemand(t, image)
	whole := time.Since(begin)
	p.filled(t)
	p.endAll(t)
	instant := randomInstants(t)
	t.Logf("a restore takes %v; kills within", whole)
	for n := range times(20, 100) {
		cmd := exec.Command(buildKup(t), "restore", "--dir", image, "--on-demand")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		delay := instant(whole)
		time.Sleep(delay)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		p.decided(t)
		eventually(t, fmt.Sprintf("all or nothing after kill %d at %v", n, delay), func() bool {
			left := members(p.dir)
			return len(seeds()) == 0 && (len(left) == 0 || slices.Contains(left, p.pid) && !slices.ContainsFunc(left, isServer))
		})
		p.check(t)
		if alive(p.pid) {
			p.filled(t)
		}
		p.endAll(t)
	}
	p.restoreOnDemand(t, image)
	p.filled(t)
	p.finish(t)
}

// TestApplicationEndsWithItsPageServer kills the page server at random instants: the application ends, too, and has never seen a page of zeros;
// the image is as good as before.
func TestApplicationEndsWithItsPageServer(t *testing.T) {
	p := start(t, buildC(t, "memory/ondemand"))
	p.waitReady(t)
	image, r := p.checkpoint(t, false)
	if r.code != exitDone {
		t.Fatalf("kup checkpoint: exit code %d\n%s", r.code, r.output)
	}
	begin := time.Now()
	p.restoreOnDemand(t, image)
	p.filled(t)
	whole := time.Since(begin)
	p.endAll(t)
	instant := randomInstants(t)
	t.Logf("restored and filled in %v; kills within", whole)
	kills, ended := times(20, 100), 0
	for n := range kills {
		server := p.restoreOnDemand(t, image).Server
		delay := instant(whole)
		time.Sleep(delay)
		_ = kernel.Kill(server, kernel.SIGKILL)
		p.decided(t)
		p.check(t)
		failed, err := pageserver.Failed(p.pid)
		if err != nil {
			t.Fatal(err)
		}
		if failed != nil {
			ended++
			eventually(t, fmt.Sprintf("the end of the application after kill %d at %v: %s", n, delay, failed.Failed), func() bool {
				for _, pid := range tree(p.pid) {
					reaped(pid)
				}
				return len(members(p.dir)) == 0
			})
		} else {
			time.Sleep(100 * time.Millisecond)
			p.check(t)
		}
		p.endAll(t)
	}
	t.Logf("%d of %d kills came before the last page", ended, kills)
	if ended == 0 {
		t.Errorf("no kill came before the last page")
	}
	p.restoreOnDemand(t, image)
	p.filled(t)
	p.finish(t)
}

// seeds lists the processes that a restore makes processes of.
func seeds() []int {
	return slices.DeleteFunc(pids(), func(pid int) bool {
		command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return string(command) != "kup-seed\x00"
	})
}

// isServer tells whether a process is a page server.
func isServer(pid int) bool {
	command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.Contains(string(command), "\x00"+pageserver.Verb)
}

// TestCheckpointWaitsForThePageServer holds a page server up, and looks at what other commands say meanwhile.
func TestCheckpointWaitsForThePageServer(t *testing.T) {
	p := start(t, buildC(t, "memory/ondemand"))
	p.waitReady(t)
	image, r := p.checkpoint(t, false)
	if r.code != exitDone {
		t.Fatalf("kup checkpoint: exit code %d\n%s", r.code, r.output)
	}
	held := false
	for try := 0; try < 20 && !held; try++ {
		server := p.restoreOnDemand(t, image).Server
		if held = hold(t, server); !held {
			p.endAll(t) // the last page was in already
			continue
		}
		if r := kup(t, "rm", image); r.code != exitFailed || !strings.Contains(r.output, "still being filled by pid "+strconv.Itoa(server)) {
			t.Errorf("kup rm of an image in use: exit code %d\n%s", r.code, r.output)
		}
		checkpointed := make(chan result)
		again := p.image(t)
		go func() { checkpointed <- kup(t, "checkpoint", "--pid", strconv.Itoa(p.pid), "--dir", again) }()
		select {
		case r := <-checkpointed:
			t.Errorf("kup checkpoint did not wait: exit code %d\n%s", r.code, r.output)
		case <-time.After(200 * time.Millisecond):
		}
		if err := kernel.Kill(server, kernel.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if r := <-checkpointed; r.code != exitDone {
			t.Fatalf("kup checkpoint: exit code %d\n%s", r.code, r.output)
		}
		gone(t, tree(p.pid))
		image = again
	}
	if !held {
		t.Fatal("no page server could be held up")
	}
	p.restoreOnDemand(t, image)
	p.filled(t)
	p.finish(t)
}

// hold stops a page server, and tells whether that came before its end.
func hold(t *testing.T, server int) bool {
	t.Helper()
	if kernel.Kill(server, kernel.SIGSTOP) != nil {
		return false
	}
	stopped := false
	eventually(t, fmt.Sprintf("page server %d to stop or end", server), func() bool {
		s, err := readStat(server)
		stopped = err == nil && s.state == 'T'
		return stopped || err != nil || s.state == 'Z'
	})
	if _, err := os.Stat(filepath.Join(pageserver.Dir, fmt.Sprintf("%d.json", server))); err == nil || !stopped {
		return stopped
	}
	// It was about to end.
	if err := kernel.Kill(server, kernel.SIGCONT); err != nil {
		t.Fatal(err)
	}
	return false
}
