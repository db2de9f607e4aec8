package vm

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/demo/load"
	"github.com/kup-project/kup/internal/vm"
	"github.com/kup-project/kup/internal/vm/trial"
	"github.com/kup-project/kup/internal/vm/vmtest"
)

// server is a server in the guest with its clients outside.
type server struct {
	name    string
	command []string
	port    string
	load    *load.Load
}

func servers() []*server {
	const think = 30 * time.Millisecond
	return []*server{
		{
			name: "memcached", port: ":11211",
			command: []string{"memcached", "-u", "memcache", "-l", vm.GuestAddr, "-m", "128"},
			load:    &load.Load{Protocol: load.Memcached, Items: 5000, ItemBytes: 4000, Think: think, Sets: 10},
		},
		{
			name: "redis", port: ":6379",
			command: []string{"redis-server", "--bind", vm.GuestAddr, "--protected-mode", "no", "--save", "", "--appendonly", "no"},
			load:    &load.Load{Protocol: load.Redis, Items: 5000, ItemBytes: 2000, Think: think, Sets: 10},
		},
	}
}

// programs check themselves, see test/programs/check.h: dynamic and static C, Go, a bash script with a pipeline of children, and one for huge pages,
// which Debian's kernels use everywhere. None of them expects a guest to be on time. They never rest, so there are few: an emulated guest has other things to do, too.
var programs = []program{
	{name: "basic", source: "task/basic.c"},
	{name: "static", source: "task/basic.c", flags: []string{"-static"}},
	{name: "go", source: "golang"},
	{name: "bash", source: "task/pipeline.sh"},
	{name: "neighbours", source: "memory/neighbours.c"},
}

// TestServersLiveThroughUpdates takes servers from 6.1 to 6.12 and back, under load from another machine.
func TestServersLiveThroughUpdates(t *testing.T) {
	network := vmtest.Net(t)
	g := start(t, trial.Config{Programs: []string{"/usr/bin/memcached", "/usr/bin/redis-server"}, Net: network})
	all := servers()
	for _, s := range all {
		s.start(t, g, network)
	}
	for _, to := range []struct{ line, carrier string }{{"6.12", "ram"}, {"6.1", "disk"}} {
		update(t, g, to.line, "--carrier", to.carrier)
		for _, s := range all {
			s.awaitAnswers(t)
		}
	}
	for _, s := range all {
		t.Run(s.name, s.finish)
	}
}

// TestProgramsLiveThroughUpdates takes programs that check themselves from 6.1 to 6.12 and back.
func TestProgramsLiveThroughUpdates(t *testing.T) {
	g := start(t, trial.Config{Programs: []string{"/bin/bash"}, Files: build(t, programs)})
	for _, p := range programs {
		p.start(t, g)
		p.stepBack(t, g)
	}
	for _, line := range []string{"6.12", "6.1"} {
		update(t, g, line)
		for _, p := range programs {
			if log := p.log(t, g); strings.Contains(log, "FAIL") || !p.running(t, g) {
				t.Fatalf("%s, after the update to %s: %s\n%s", p.name, line, log, must(t, g, "cat", "/proc/net/snmp", "/proc/net/netstat"))
			}
		}
	}
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) { p.finish(t, g) })
	}
}

// TestUpdateGoesAsItIsTold takes a program to 6.12 without pre-copy, and has it restored with all of its memory.
func TestUpdateGoesAsItIsTold(t *testing.T) {
	p := program{name: "static", source: "task/basic.c", flags: []string{"-static"}}
	g := start(t, trial.Config{Files: build(t, []program{p})})
	p.start(t, g)
	update(t, g, "6.12", "--no-precopy", "--append", "kup.boot=--eager")
	journal, err := g.Journal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a := journal.Applications[0]
	if a.Capture.Precopy != nil {
		t.Errorf("pre-copy: %+v", a.Capture.Precopy)
	}
	if a.Return.Pages != nil {
		t.Errorf("it ran before all memory was there: %+v", a.Return)
	}
	p.finish(t, g)
}

// start starts the server, fills it, and begins to put load on it.
func (s *server) start(t *testing.T, g *trial.Guest, network *vm.Net) {
	t.Helper()
	must(t, g, append([]string{"kup", "run", "-d", "--name", s.name, "--"}, s.command...)...)
	dial := func(ctx context.Context) (net.Conn, error) {
		return network.DialUntilUp(ctx, vm.GuestAddr+s.port, patience)
	}
	if err := s.load.Connect(t.Context(), 10, dial); err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	t.Cleanup(s.load.Close)
	if err := s.load.Fill(); err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	s.load.Run()
}

// awaitAnswers waits until every client has got an answer from now on.
func (s *server) awaitAnswers(t *testing.T) {
	t.Helper()
	if err := s.load.AwaitAnswers(time.Now(), patience); err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
}

// finish checks every item.
func (s *server) finish(t *testing.T) {
	if err := s.load.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.load.Check(); err != nil {
		t.Fatal(err)
	}
}
