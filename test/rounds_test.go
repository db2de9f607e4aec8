package test

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// times is how often something random is tried: more often if KUP_LONG_TESTS is set, as by `make test-long`.
func times(usually, long int) int {
	if os.Getenv("KUP_LONG_TESTS") != "" {
		return long
	}
	return usually
}

// randomInstants returns a function that gives one within a time, and logs its seed.
func randomInstants(t *testing.T) func(within time.Duration) time.Duration {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("random instants, seed %d", seed)
	return func(within time.Duration) time.Duration { return time.Duration(random.Int64N(int64(within))) }
}

// rounds is how often each program of the tests below goes through a checkpoint with pre-copy and a restore on demand.
func rounds() int { return times(4, 100) }

// TestProgramsWorkThroughRounds takes programs that never rest through rounds.
func TestProgramsWorkThroughRounds(t *testing.T) {
	for _, r := range []row{
		{name: "malloc", source: "memory/malloc"},
		{name: "forks", source: "memory/forks"},
		{name: "mappings", source: "memory/ondemand"},
		{name: "go", source: "golang", golang: true},
	} {
		t.Run(r.name, func(t *testing.T) {
			p, _ := startRow(t, r)
			var c course
			for range rounds() {
				c.round(t, p, nil)
			}
			p.finish(t)
			c.tell(t)
		})
	}
}

// TestImagesInMemory keeps images on a tmpfs, where room for them is made before the freeze: for memory that is another one by then.
func TestImagesInMemory(t *testing.T) {
	for _, r := range []row{
		{name: "malloc", source: "memory/malloc"},
		{name: "forks", source: "memory/forks"},
		{name: "mappings", source: "memory/ondemand"},
	} {
		t.Run(r.name, func(t *testing.T) {
			p, _ := startRow(t, r)
			var err error
			if p.images, err = os.MkdirTemp("/dev/shm", "kup-test-"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(p.images) })
			for range 5 {
				image, r := p.checkpoint(t, false, "--paranoid")
				if r.code != exitDone {
					t.Fatalf("kup checkpoint --paranoid: exit code %d\n%s", r.code, r.output)
				}
				kupDone(t, "verify", image)
				p.restore(t, image)
				removeAll(t, filepath.Dir(image))
			}
			p.finish(t)
		})
	}
}

// TestMemcachedWorksThroughRounds does the same with a server under the load of its clients.
func TestMemcachedWorksThroughRounds(t *testing.T) {
	port := freePort(t)
	p := newProgram(t)
	p.launch(t, "memcached", "-u", "root", "-l", "127.0.0.1", "-p", port, "-m", "256", "-t", "4", "-U", "0")
	clients := connect(t, memcached{}, port, roundLoad)
	all(t, clients, (*client).fillAll)
	stop := keepBusy(t, clients)
	var c course
	for range rounds() {
		giveTime(t, clients)
		c.round(t, p, func() { goOn(t, clients, operations(clients)) })
	}
	stop()
	all(t, clients, (*client).verifyAll)
	c.tell(t)
}

// keepBusy lets clients work until stop is called.
func keepBusy(t *testing.T, clients []*client) (stop func()) {
	var over atomic.Bool
	var working sync.WaitGroup
	for _, c := range clients {
		working.Go(func() { c.work(&over) })
	}
	stop = func() {
		over.Store(true)
		working.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// course adds up what rounds have shown.
type course struct {
	rounds  int
	written int64 // bytes that were written during pre-copy, and copied again
	left    int64 // bytes that pre-copy left to the freeze
	missing int64 // bytes that the program ran without at first
}

// round checkpoints a program with pre-copy, comparing every page with its copy, restores it on demand, and calls restored, if that is not nil, while it is filled.
// It returns when the last page is in.
func (c *course) round(t *testing.T, p *program, restored func()) {
	t.Helper()
	image, r := p.checkpoint(t, false, "--precopy", "--paranoid", "--json")
	if r.code != exitDone {
		t.Fatalf("round %d: kup checkpoint --precopy --paranoid: exit code %d\n%s", c.rounds, r.code, r.output)
	}
	var report struct {
		Precopy struct {
			Rounds []struct{ Bytes int64 }
			Left   int64
		}
	}
	if err := json.Unmarshal([]byte(r.output), &report); err != nil {
		t.Fatalf("%v\n%s", err, r.output)
	}
	for _, again := range report.Precopy.Rounds[1:] {
		c.written += again.Bytes
	}
	c.left += report.Precopy.Left
	c.missing += p.restoreOnDemand(t, image).Left
	if restored != nil {
		restored()
	}
	p.filled(t)
	removeAll(t, filepath.Dir(image))
	c.rounds++
}

// tell logs the course, and fails the test if its rounds were empty.
func (c *course) tell(t *testing.T) {
	t.Helper()
	t.Logf("%d rounds: %d MB written during pre-copy, %d MB left to the freezes, %d MB filled on demand", c.rounds, c.written>>20, c.left>>20, c.missing>>20)
	if c.written+c.left == 0 || c.missing == 0 {
		t.Errorf("the program did not write during pre-copy, or lacked no page after a restore")
	}
}
