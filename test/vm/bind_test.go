package vm

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/vm"
	"github.com/kup-project/kup/internal/vm/trial"
	"github.com/kup-project/kup/internal/vm/vmtest"
)

// TestMemoryIsBoundWhileItChanges has programs fork and change their memory in every way while it comes back to them in its page frames: a redis begins to write its database,
// which takes a fork, as soon as it runs.
func TestMemoryIsBoundWhileItChanges(t *testing.T) {
	restless := []program{
		{name: "ondemand", source: "memory/ondemand.c", args: []string{"childless"}}, // what it shares with children would be copied before the jump
		{name: "forks", source: "memory/forks.c"},
	}
	files := build(t, restless)
	buildModules(t, files, "6.1", "6.12")
	keepImages := lookIntoFrames(t, files)
	network := vmtest.Net(t)
	g := start(t, trial.Config{Files: files, MemoryMB: 2048, Programs: []string{"/usr/bin/redis-server"}, Net: network})
	redis := servers()[1]
	redis.command = append(redis.command, "--dir", vm.DiskMount, "--rdbcompression", "no")
	redis.load.Items, redis.load.ItemBytes = 3000, 32000
	redis.start(t, g, network)
	conn, err := network.DialUntilUp(t.Context(), vm.GuestAddr+redis.port, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, p := range restless {
		p.start(t, g)
		p.stepBack(t, g)
	}
	before := memTotal(t, g)
	for _, line := range []string{"6.12", "6.1"} {
		saved := saveAfter(t, g, "restored redis", conn)
		update(t, g, line, "--carrier", "frames", "--module", module(line), "--append", keepImages)
		if err := <-saved; err != nil {
			t.Fatal(err)
		}
		redis.awaitAnswers(t)
		inFrames(t, g)
		for _, p := range restless {
			if log := p.log(t, g); strings.Contains(log, "FAIL") || !p.running(t, g) {
				t.Fatalf("%s, after the update to %s: %s", p.name, line, log)
			}
		}
		nothingLeft(t, g, before)
	}
	for _, p := range restless {
		t.Run(p.name, func(t *testing.T) { p.finish(t, g) })
	}
	t.Run(redis.name, redis.finish)
}

// saveAfter makes a redis save its database as soon as the guest says something once more, and tells when it has done so.
func saveAfter(t *testing.T, g *trial.Guest, says string, conn net.Conn) (done <-chan error) {
	said := func() (n int) {
		for _, m := range g.Marks() {
			if m.What == says {
				n++
			}
		}
		return n
	}
	before, result := said(), make(chan error, 1)
	go func() {
		for said() == before && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		result <- save(conn)
	}()
	return result
}

// save has a redis save its database in a child, and waits until that has ended.
func save(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	for command := "BGSAVE"; ; command = "INFO persistence" {
		if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
			return err
		}
		n, err := conn.Read(answer)
		if err != nil {
			return err
		}
		switch text := string(answer[:n]); {
		case strings.HasPrefix(text, "-"):
			return fmt.Errorf("%s: %s", command, text)
		case strings.Contains(text, "rdb_bgsave_in_progress:0"):
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// TestApplicationsStartAfreshIfTheirPageServerIsKilled kills it before an application runs, and in the middle of its work: the page frames that it has bound end with the application.
func TestApplicationsStartAfreshIfTheirPageServerIsKilled(t *testing.T) {
	large := program{name: "crowd", source: "memory/crowd.c", flags: []string{"-static"}, args: []string{"300"}}
	files := build(t, []program{large})
	buildModules(t, files, "6.12")
	files[inframes] = vmtest.Build(t, "./test/vm/testdata/inframes")
	for _, moment := range []string{"early", "late"} {
		files["/usr/lib/kup-test/"+moment] = script(t, "setsid "+inframes+" kill "+moment+" </dev/null >/run/killed 2>&1 & exec /bin/network-up")
	}
	g := start(t, trial.Config{Files: files, MemoryMB: 2048})
	large.start(t, g)
	before := memTotal(t, g)
	for n, moment := range []string{"early", "late"} {
		_, err := g.Update(t.Context(), "6.12", "--carrier", "frames", "--module", module("6.12"), "--append", "kup.boot=--network-up=/usr/lib/kup-test/"+moment)
		if err == nil || !strings.Contains(err.Error(), "start-up") {
			t.Fatalf("%s: %v: %s", moment, err, must(t, g, "sh", "-c", "cat /run/killed 2>&1; true"))
		}
		journal, err := g.Journal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		a := journal.Applications[0]
		t.Logf("%s: %s", moment, a.Error)
		if !a.Lost || a.Restored || journal.Phase != "settled" {
			t.Errorf("%s: phase %s: %+v", moment, journal.Phase, a)
		}
		eventually(t, "the next start", func() bool { return strings.Count(large.log(t, g), "ready\n") == n+2 })
		if !large.running(t, g) {
			t.Errorf("%s: it does not run", moment)
		}
		if left := must(t, g, "sh", "-c", "find /run/kup/update -name manifest 2>/dev/null; true"); left != "" {
			t.Errorf("%s: left behind: %s", moment, left)
		}
		nothingLeft(t, g, before)
	}
}
