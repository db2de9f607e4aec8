package test

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/kernel"
)

// TestStoppedCheckpointsAndRestores tells kup to stop at random instants. A checkpoint leaves the application as it was, and no image; a restore leaves the image,
// and no process.
func TestStoppedCheckpointsAndRestores(t *testing.T) {
	p := newProgram(t)
	p.launch(t, buildC(t, "memory/big"), p.path("log"), p.path("finish"), "400")
	p.waitReady(t)
	whole := checkpointTime(t, p)
	for _, flags := range [][]string{{"--leave-running"}, {"--leave-running", "--precopy"}, {"--leave-running", "--fork"}, {}} {
		t.Run("checkpoint"+strings.Join(flags, ""), func(t *testing.T) {
			stopAtRandom(t, whole, func(sig kernel.Signal, delay time.Duration) int {
				image := p.image(t)
				args := append([]string{"checkpoint", "--pid", strconv.Itoa(p.pid), "--dir", image}, flags...)
				code, output := signalKup(t, sig, delay, args...)
				if code != exitDone && code != exitStopped && code != -1 {
					t.Fatalf("kup checkpoint: exit code %d\n%s", code, output)
				}
				noLeftovers(t, image, code == exitDone)
				if code == exitDone && len(flags) == 0 {
					gone(t, []int{p.pid})
					p.restore(t, image)
				}
				p.check(t)
				removeAll(t, filepath.Dir(image))
				return code
			})
		})
	}
	t.Run("restore", func(t *testing.T) {
		image, r := p.checkpoint(t, false)
		if r.code != exitDone {
			t.Fatalf("kup checkpoint: exit code %d\n%s", r.code, r.output)
		}
		stopAtRandom(t, whole, func(sig kernel.Signal, delay time.Duration) int {
			code, output := signalKup(t, sig, delay, "restore", "--dir", image)
			switch code {
			case exitDone:
				time.Sleep(50 * time.Millisecond)
				if p.check(t); !alive(p.pid) {
					t.Errorf("kup restore: exit code 0, but the program has ended\n%s", output)
				}
				end(t, tree(p.pid))
			case exitStopped, -1:
				gone(t, append(tree(p.pid), members(p.dir)...))
			default:
				t.Fatalf("kup restore: exit code %d\n%s", code, output)
			}
			return code
		})
		p.restore(t, image)
	})
	p.finish(t)
}

// stopAtRandom calls try, which returns the exit code of kup, until enough of it was stopped while it worked.
func stopAtRandom(t *testing.T, whole time.Duration, try func(sig kernel.Signal, delay time.Duration) (code int)) {
	t.Helper()
	instant := randomInstants(t)
	t.Logf("signals at random instants within %v", whole)
	wanted, stopped := times(10, 100), 0
	for n := 0; stopped < wanted; n++ {
		if n == 10*wanted {
			t.Fatalf("only %d of %d were stopped at work", stopped, n)
		}
		sig := kernel.TerminatingSignals[n%len(kernel.TerminatingSignals)].(kernel.Signal)
		if try(sig, instant(whole)) == exitStopped {
			stopped++
		}
	}
}
