package test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// kills is how often kup is killed at work for each program.
const kills = 250

// TestApplicationSurvivesKillOfKup kills kup at a random instant of a checkpoint, again and again. Each time the
// application must look as before, and every thread of it must go on.
func TestApplicationSurvivesKillOfKup(t *testing.T) {
	t.Run("C", func(t *testing.T) {
		p := start(t, buildC(t, "task/survivor"))
		p.waitReady(t)
		surviveKills(t, p)
	})
	t.Run("Go", func(t *testing.T) {
		p := newProgram(t)
		p.env = []string{"STEADY=1"}
		p.launch(t, buildGo(t, "golang"), p.path("log"), p.path("finish"))
		p.waitReady(t)
		time.Sleep(3 * time.Second) // the heap finds its size
		surviveKills(t, p)
	})
}

func surviveKills(t *testing.T, p *program) {
	t.Helper()
	longest := checkpointTime(t, p)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("a checkpoint takes %v; kills at random instants within, seed %d", longest, seed)
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
		delay := time.Duration(random.Int64N(int64(longest)))
		image := p.image(t)
		// The window follows the time that a checkpoint takes now, so that kills hit all of it.
		if killKup(t, p, image, delay) {
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
		if n%10 == 0 {
			neverHalf(t, image)
		}
		if err := os.RemoveAll(filepath.Dir(image)); err != nil {
			t.Fatal(err)
		}
	}
	p.finish(t)
}

// checkpointTime is the median of a few undisturbed checkpoints.
func checkpointTime(t *testing.T, p *program) time.Duration {
	t.Helper()
	var times []time.Duration
	for range 5 {
		begin := time.Now()
		image, r := p.checkpoint(t, true)
		if r.code != exitDone {
			t.Fatalf("kup checkpoint: exit code %d\n%s", r.code, r.output)
		}
		times = append(times, time.Since(begin))
		if err := os.RemoveAll(filepath.Dir(image)); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(times)
	return times[len(times)/2]
}

// killKup kills a checkpoint after the delay, and tells whether it was still at work.
func killKup(t *testing.T, p *program, image string, delay time.Duration) bool {
	t.Helper()
	cmd := exec.Command(buildKup(t), "checkpoint", "--pid", strconv.Itoa(p.pid), "--dir", image, "--leave-running")
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(delay)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	code := cmd.ProcessState.ExitCode() // -1 after a signal
	if code != exitDone && code != -1 {
		t.Fatalf("kup checkpoint: exit code %d\n%s", code, output.String())
	}
	return code == -1
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
