package test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

// restoreOnDemand brings the tree back without its memory, and returns the process ID of the page server, or 0 if there was no need of one.
func (p *program) restoreOnDemand(t *testing.T, image string) (server int) {
	t.Helper()
	r := kup(t, "restore", "--dir", image, "--on-demand", "--json")
	if r.code != exitDone {
		t.Fatalf("kup restore --on-demand: exit code %d\n%s", r.code, r.output)
	}
	var report struct {
		Pages struct{ Server int }
	}
	if err := json.Unmarshal([]byte(r.output), &report); err != nil {
		t.Fatalf("%v\n%s", err, r.output)
	}
	return report.Pages.Server
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

// onDemandRounds is how often a program is restored while it changes its memory.
const onDemandRounds = 10

// TestMemoryChangesWhileItIsFilled restores, again and again, a program that drops, moves, unmaps and inherits what is still missing.
func TestMemoryChangesWhileItIsFilled(t *testing.T) {
	p := start(t, buildC(t, "memory/ondemand"))
	p.waitReady(t)
	for range onDemandRounds {
		image, r := p.checkpoint(t, false)
		if r.code != exitDone {
			t.Fatalf("kup checkpoint: exit code %d\n%s", r.code, r.output)
		}
		p.restoreOnDemand(t, image)
		p.filled(t)
		if err := os.RemoveAll(filepath.Dir(image)); err != nil {
			t.Fatal(err)
		}
	}
	p.finish(t)
}

// restoreKills is how often kup is killed while it restores.
const restoreKills = 20

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
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("a restore takes %v; kills within, seed %d", whole, seed)
	for n := range restoreKills {
		cmd := exec.Command(buildKup(t), "restore", "--dir", image, "--on-demand")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		delay := time.Duration(random.Int64N(int64(whole)))
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

// serverKills is how often the page server is killed.
const serverKills = 20

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
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("restored and filled in %v; kills within, seed %d", whole, seed)
	ended := 0
	for n := range serverKills {
		server := p.restoreOnDemand(t, image)
		delay := time.Duration(random.Int64N(int64(whole)))
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
	t.Logf("%d of %d kills came before the last page", ended, serverKills)
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
		server := p.restoreOnDemand(t, image)
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
	_, err := os.Stat(filepath.Join(pageserver.Dir, fmt.Sprintf("%d.json", server)))
	return stopped && err == nil
}

// TestMemcachedOnDemand restores a server on demand under the load of its clients.
func TestMemcachedOnDemand(t *testing.T) {
	port := freePort(t)
	onDemandUnderLoad(t, memcached{}, port, "memcached", "-u", "root", "-l", "127.0.0.1", "-p", port, "-m", "512", "-t", "4", "-U", "0")
}

// onDemandUnderLoad restores a server, several times, while its clients go on asking: no connection may break, and no value may be wrong.
func onDemandUnderLoad(t *testing.T, speak protocol, port string, command ...string) {
	p := newProgram(t)
	p.launch(t, command...)
	clients := connect(t, speak, port)
	all(t, clients, (*client).fillAll)
	var over atomic.Bool
	var working sync.WaitGroup
	for _, c := range clients {
		working.Go(func() { c.work(&over) })
	}
	const times = 3
	for range times {
		image, r := p.checkpoint(t, false)
		if r.code != exitDone {
			t.Fatalf("kup checkpoint: exit code %d\n%s", r.code, r.output)
		}
		before := operations(clients)
		p.restoreOnDemand(t, image)
		goOn(t, clients, before)
		p.filled(t)
		if err := os.RemoveAll(filepath.Dir(image)); err != nil {
			t.Fatal(err)
		}
	}
	over.Store(true)
	working.Wait()
	all(t, clients, (*client).verifyAll)
}

// TestRedisSavesWhileItIsFilled lets redis fork and save right after a restore on demand: the child inherits what is missing. What the child has
// saved is loaded by another server, and every value is compared in both.
func TestRedisSavesWhileItIsFilled(t *testing.T) {
	port := freePort(t)
	p := newProgram(t)
	p.launch(t, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
	clients := connect(t, redis{}, port)
	all(t, clients, (*client).fillAll)
	image, r := p.checkpoint(t, false)
	if r.code != exitDone {
		t.Fatalf("kup checkpoint: exit code %d\n%s", r.code, r.output)
	}
	p.restoreOnDemand(t, image)
	saver := clients[0]
	if answer := saver.ask(t, "BGSAVE"); answer != "+Background saving started" {
		t.Fatalf("BGSAVE: %q", answer)
	}
	all(t, clients[1:], (*client).verifyAll)
	eventually(t, "the end of BGSAVE", func() bool {
		return strings.Contains(saver.askBulk(t, "INFO persistence"), "rdb_bgsave_in_progress:0")
	})
	if info := saver.askBulk(t, "INFO persistence"); !strings.Contains(info, "rdb_last_bgsave_status:ok") {
		t.Fatalf("BGSAVE has failed:\n%s", info)
	}
	p.filled(t)
	all(t, clients, (*client).verifyAll)

	other := freePort(t)
	copied := newProgram(t)
	if err := os.Rename(p.path("dump.rdb"), copied.path("dump.rdb")); err != nil {
		t.Fatal(err)
	}
	copied.launch(t, "redis-server", "--port", other, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
	readers := connect(t, redis{}, other)
	for i, c := range readers {
		c.version = clients[i].version
	}
	eventually(t, "the dump to be loaded", func() bool {
		return strings.Contains(readers[0].askBulk(t, "INFO persistence"), "\nloading:0")
	})
	all(t, readers, (*client).verifyAll)
}

// ask sends an inline command to redis and returns the line it answers.
func (c *client) ask(t *testing.T, command string) string {
	t.Helper()
	if _, err := io.WriteString(c.conn, command+"\r\n"); err != nil {
		t.Fatal(err)
	}
	line, err := c.r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(line, "\r\n")
}

// askBulk is ask for an answer of several lines.
func (c *client) askBulk(t *testing.T, command string) string {
	t.Helper()
	var size int
	if head := c.ask(t, command); head == "" || head[0] != '$' {
		t.Fatalf("%s: %q", command, head)
	} else if _, err := fmt.Sscanf(head, "$%d", &size); err != nil {
		t.Fatal(err)
	}
	text, err := readValue(c.r, size)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
