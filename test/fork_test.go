package test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/kernel"
)

// runFork saves the program from a copy of its memory while it runs on, and restores that, if nobody outside has seen what came after.
func runFork(t *testing.T, r row) {
	p, stopPeer := startRow(t, r)
	var before habits
	if !r.restless {
		before = observe(t, tree(p.pid))
	}
	image, result := p.checkpoint(t, true, "--fork", "--paranoid")
	if refused(t, r, result) {
		stopPeer()
		p.finish(t)
		return
	}
	if !r.restless {
		sameAs(t, before, tree(p.pid))
	}
	noHolders(t, p)
	time.Sleep(100 * time.Millisecond)
	p.check(t)
	if r.peer == nil {
		p.end(t)
		p.restore(t, image)
	}
	stopPeer()
	p.finish(t)
}

// holders lists the copies of a program's processes that kup has made, ended ones excluded. Orphans come to the harness, which buries them.
func holders(p *program) (found []int) {
	for _, pid := range pids() {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		switch {
		case string(comm) != "kup-holder\n":
		case reaped(pid) || !bytes.Contains(cmdline, []byte(p.dir)):
		default:
			found = append(found, pid)
		}
	}
	return found
}

// noHolders waits until no copy of a program's processes is left.
func noHolders(t *testing.T, p *program) {
	t.Helper()
	eventually(t, fmt.Sprintf("end of the copies of pid %d", p.pid), func() bool { return len(holders(p)) == 0 })
}

func TestMemcachedForkedUnderLoad(t *testing.T) {
	port := freePort(t)
	forkedUnderLoad(t, memcached{}, port, memcachedAt(port)...)
}

func TestRedisForkedUnderLoad(t *testing.T) {
	port := freePort(t)
	forkedUnderLoad(t, redis{}, port, redisAt(port)...)
}

// forkedUnderLoad takes a forked checkpoint of a server that its clients keep busy. The image must hold what they had written at one instant: of each client
// everything up to some write, and nothing after it.
func forkedUnderLoad(t *testing.T, speak protocol, port string, command ...string) {
	p := newProgram(t)
	p.launch(t, command...)
	clients := connect(t, speak, port, fullLoad)
	all(t, clients, (*client).fillAll)
	stop := keepBusy(t, clients)
	time.Sleep(300 * time.Millisecond)
	image, r := p.checkpoint(t, true, "--fork")
	if r.code != exitDone {
		t.Fatalf("kup checkpoint: exit code %d\n%s", r.code, r.output)
	}
	goOn(t, clients, operations(clients))
	stop()
	all(t, clients, (*client).verifyAll)

	for _, c := range clients {
		// With a reset, or the connections would linger where the restore needs their addresses.
		if err := c.conn.(*net.TCPConn).SetLinger(0); err != nil {
			t.Fatal(err)
		}
		c.conn.Close()
	}
	p.end(t)
	kupDone(t, "restore", "--dir", image)
	after := 0
	for i, c := range connect(t, speak, port, fullLoad) {
		c.written = clients[i].written
		for n := range c.versions {
			c.versions[n].Store(clients[i].versions[n].Load())
		}
		after += c.instant(t)
	}
	if after == 0 {
		t.Error("nothing was written after the instant of the checkpoint, so nothing was tested")
	}
}

// instant finds the last write of a client that the server has, verifies that it has all before and none after it, and returns how many came after.
func (c *client) instant(t *testing.T) (after int) {
	t.Helper()
	versions := make([]int64, len(c.versions))
	for n := range versions {
		value, err := c.fetch(n)
		if err != nil {
			t.Fatalf("connection %d: %v", c.id, err)
		}
		if versions[n], err = c.version(n, value); err != nil {
			t.Fatalf("connection %d: %v", c.id, err)
		}
	}
	then := make([]int64, len(versions))
	for done := 0; ; done++ {
		if slices.Equal(then, versions) {
			return len(c.written) - done
		}
		if done == len(c.written) {
			t.Fatalf("connection %d: the %d values are of no one instant", c.id, len(versions))
		}
		then[c.written[done]]++
	}
}

// TestSubreaperIsCopiedInFreeze: the copy of a process that adopts orphans would become its child.
func TestSubreaperIsCopiedInFreeze(t *testing.T) {
	p := start(t, buildC(t, "task/prctls"))
	p.waitReady(t)
	_, r := p.checkpoint(t, true, "--fork")
	if want := fmt.Sprintf("pid %d was copied in the freeze: it or a process above it adopts orphans", p.pid); r.code != exitDone || !strings.Contains(r.output, want) {
		t.Errorf("kup checkpoint: exit code %d, expected %d and %q\n%s", r.code, exitDone, want, r.output)
	}
	p.finish(t)
}

// TestLostCopyFailsCheckpoint kills the copy of a server before it is read to its end: by then the server has been running on for long.
func TestLostCopyFailsCheckpoint(t *testing.T) {
	port := freePort(t)
	p := newProgram(t)
	// The argument of -P, of no use without -d, makes its copy known as this test's.
	p.launch(t, "memcached", "-u", "root", "-l", "127.0.0.1", "-p", port, "-m", "512", "-U", "0", "-P", p.path("pid"))
	clients := connect(t, memcached{}, port, fullLoad)
	all(t, clients, (*client).fillAll)
	before := observe(t, tree(p.pid))
	image := p.image(t)
	const tries = 50
	code, output := exitDone, ""
	// It may also be killed too early, when the application still waits for it.
	for try := 0; code == exitDone || strings.Contains(output, "while it was built"); try++ {
		if try == tries {
			t.Fatalf("%d copies could not be killed in time: %s", tries, output)
		}
		removeAll(t, image)
		code, output = checkpointWithoutCopy(t, p, image)
	}
	if code != exitFailed || !strings.Contains(output, "the copy of its memory") {
		t.Errorf("kup checkpoint: exit code %d, expected %d and what was lost\n%s", code, exitFailed, output)
	}
	noLeftovers(t, image, false)
	noHolders(t, p)
	sameAs(t, before, tree(p.pid))
	all(t, clients, (*client).verifyAll)
}

// checkpointWithoutCopy takes a forked checkpoint, and kills the copy as soon as there is one, if it is not done by then.
func checkpointWithoutCopy(t *testing.T, p *program, image string) (code int, output string) {
	t.Helper()
	var text strings.Builder
	cmd := exec.Command(buildKup(t), "checkpoint", "--pid", strconv.Itoa(p.pid), "--dir", image, "--leave-running", "--fork")
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var over atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
		over.Store(true)
	}()
	for !over.Load() {
		for _, pid := range holders(p) {
			_ = kernel.Kill(pid, kernel.SIGKILL) // it may have ended
		}
	}
	<-ended
	return cmd.ProcessState.ExitCode(), text.String()
}
