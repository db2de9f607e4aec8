package test

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/kernel"
)

// TestApplicationSurvivesKillOfKup kills kup at a random instant of a checkpoint, again and again. Each time the
// application must look as before, and every thread of it must go on.
func TestApplicationSurvivesKillOfKup(t *testing.T) {
	for _, mode := range []struct {
		name  string
		flags []string
		kills int // of kup at work, for each program
	}{{"frozen", nil, 250}, {"forked", []string{"--fork"}, times(50, 250)}} {
		t.Run(mode.name, func(t *testing.T) {
			t.Run("C", func(t *testing.T) {
				p := start(t, buildC(t, "task/survivor"))
				p.waitReady(t)
				surviveKills(t, p, mode.kills, mode.flags...)
			})
			t.Run("Go", func(t *testing.T) {
				p := newProgram(t)
				p.env = []string{"STEADY=1"}
				p.launch(t, buildGo(t, "golang"), p.path("log"), p.path("finish"))
				p.waitReady(t)
				time.Sleep(3 * time.Second) // the heap finds its size
				surviveKills(t, p, mode.kills, mode.flags...)
			})
		})
	}
}

// TestConnectionsSurviveKillOfKup kills kup while it holds many connections, on a machine where whoever puts them in order has to wait for a processor.
func TestConnectionsSurviveKillOfKup(t *testing.T) {
	for range runtime.NumCPU() {
		busy := exec.Command("sh", "-c", "while :; do :; done")
		if err := busy.Start(); err != nil {
			t.Fatal(err)
		}
		defer busy.Wait()
		defer busy.Process.Kill()
	}
	p := start(t, buildC(t, "net/tcpcrowd"))
	p.waitReady(t)
	surviveKills(t, p, times(30, 600))
}

// TestServersHearAfterKillOfKup kills kup while it keeps connections from a server that clients ask for them all the time.
func TestServersHearAfterKillOfKup(t *testing.T) {
	for name, flags := range map[string][]string{"TCP": nil, "MPTCP": {"-DMULTIPATH"}} {
		t.Run(name, func(t *testing.T) {
			p := start(t, buildC(t, "net/shortlived", flags...))
			stop := knock(t, p)
			longest := checkpointTime(t, p)
			instant := randomInstants(t)
			address := fmt.Sprintf("127.0.0.1:%d", p.value(t, "port"))
			killed := 0
			for n := range times(20, 300) {
				image, delay := p.image(t), instant(longest)
				if killKup(t, p, image, delay) {
					killed++
				}
				if err := askOnce(address, uint64(n)); err != nil {
					t.Fatalf("after kill %d, after %v: %v", n, delay, err)
				}
				removeAll(t, filepath.Dir(image))
			}
			t.Logf("%d kills came before kup was done", killed)
			stop()
			p.finish(t)
		})
	}
}

func surviveKills(t *testing.T, p *program, kills int, flags ...string) {
	t.Helper()
	longest := checkpointTime(t, p, flags...)
	instant := randomInstants(t)
	t.Logf("a checkpoint takes %v; kills at random instants within", longest)
	killed := 0
	for n := 0; killed < kills; n++ {
		if n%50 == 0 {
			t.Logf("%d kills, %d of them before kup was done", n, killed)
		}
		if n >= 3*kills {
			t.Fatalf("only %d of %d kills came before kup was done", killed, n)
		}
		before := observe(t, tree(p.pid))
		rounds := p.progress(t)
		delay := instant(longest)
		image := p.image(t)
		// The window follows the time that a checkpoint takes now, so that kills hit all of it.
		if killKup(t, p, image, delay, flags...) {
			killed++
			longest += longest / 100
		} else {
			longest -= longest / 40
		}
		if now := p.progress(t); len(now) != len(rounds) {
			t.Fatalf("kill %d after %v: %d counters became %d", n, delay, len(rounds), len(now))
		}
		p.goesOn(t, fmt.Sprintf("kill %d after %v", n, delay))
		sameAs(t, before, tree(p.pid))
		noHolders(t, p)
		if n%10 == 0 {
			neverHalf(t, image)
		}
		removeAll(t, filepath.Dir(image))
	}
	p.finish(t)
}

// checkpointTime is the median of a few undisturbed checkpoints.
func checkpointTime(t *testing.T, p *program, flags ...string) time.Duration {
	t.Helper()
	var times []time.Duration
	for range 5 {
		begin := time.Now()
		image, r := p.checkpoint(t, true, flags...)
		if r.code != exitDone {
			t.Fatalf("kup checkpoint: exit code %d\n%s", r.code, r.output)
		}
		times = append(times, time.Since(begin))
		removeAll(t, filepath.Dir(image))
	}
	slices.Sort(times)
	return times[len(times)/2]
}

// killKup kills a checkpoint after the delay, and tells whether it was still at work. More flags of kup may follow.
func killKup(t *testing.T, p *program, image string, delay time.Duration, flags ...string) bool {
	t.Helper()
	args := append([]string{"checkpoint", "--pid", strconv.Itoa(p.pid), "--dir", image, "--leave-running"}, flags...)
	code, output := signalKup(t, kernel.SIGKILL, delay, args...)
	if code != exitDone && code != -1 {
		t.Fatalf("kup checkpoint: exit code %d\n%s", code, output)
	}
	return code == -1
}

// signalKup starts kup, and after the delay sends a signal to its process group, as terminals, shells and timeout(1) do. The exit code is -1 if the signal has killed it.
func signalKup(t *testing.T, sig kernel.Signal, delay time.Duration, args ...string) (code int, output string) {
	t.Helper()
	cmd := exec.Command(buildKup(t), args...)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = kernel.NewSession()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(delay)
	_ = kernel.Kill(-cmd.Process.Pid, sig)
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode(), said.String()
}

// progress reads the counters that the program's threads keep.
func (p *program) progress(t *testing.T) []uint64 {
	t.Helper()
	content, err := os.ReadFile(p.path("progress"))
	if err != nil {
		t.Fatal(err)
	}
	var counters []uint64
	for ; len(content) >= 8; content = content[8:] {
		counters = append(counters, binary.LittleEndian.Uint64(content))
	}
	return counters
}

// goesOn waits until every counter has moved.
func (p *program) goesOn(t *testing.T, after string) {
	t.Helper()
	start := p.progress(t)
	eventually(t, "progress of all threads after "+after, func() bool {
		p.check(t)
		for i, now := range p.progress(t) {
			if now <= start[i] {
				return false
			}
		}
		return true
	})
}

// neverHalf verifies that what a killed kup left is either whole or not acceptable.
func neverHalf(t *testing.T, image string) {
	t.Helper()
	if _, err := os.Stat(image); err != nil {
		return
	}
	if r := kup(t, "verify", image); r.code != exitDone && r.code != exitUnusable {
		t.Errorf("kup verify of what a killed kup left: exit code, expected %d or %d, got %d\n%s", exitDone, exitUnusable, r.code, r.output)
	}
}

// TestTrackingEndsWithKup kills kup at random instants of a checkpoint with pre-copy: the application works on, its memory is watched no longer, and the next
// pre-copy misses no write.
func TestTrackingEndsWithKup(t *testing.T) {
	p := start(t, buildC(t, "memory/malloc"))
	p.waitReady(t)
	flags := []string{"--precopy", "--paranoid"}
	whole := checkpointTime(t, p, flags...)
	instant := randomInstants(t)
	t.Logf("a checkpoint takes %v; kills at random instants within", whole)
	tries, killed := times(30, 300), 0
	for n := range tries {
		image := p.image(t)
		delay := instant(whole)
		if killKup(t, p, image, delay, flags...) {
			killed++
		}
		p.check(t)
		eventually(t, fmt.Sprintf("the end of tracking after kill %d at %v", n, delay), func() bool { return !tracked(p.pid) })
		if n%10 == 9 {
			again, r := p.checkpoint(t, true, flags...)
			if r.code != exitDone {
				t.Fatalf("kup checkpoint after kill %d at %v: exit code %d\n%s", n, delay, r.code, r.output)
			}
			removeAll(t, filepath.Dir(again))
		}
		removeAll(t, filepath.Dir(image))
	}
	t.Logf("%d of %d kills came before kup was done", killed, tries)
	if killed < tries/2 {
		t.Errorf("only %d of %d kills came before kup was done", killed, tries)
	}
	var c course
	c.round(t, p, nil)
	p.finish(t)
}

// tracked tells whether writes to memory of a process are watched (VmFlags "uw" of proc_pid_smaps(5)) or it holds a userfaultfd.
func tracked(pid int) bool {
	smaps, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	return strings.Contains(string(smaps), " uw ") || slices.ContainsFunc(links, func(link string) bool {
		target, _ := os.Readlink(link)
		return target == "anon_inode:[userfaultfd]"
	})
}
