package vm

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/demo/load"
	"github.com/kup-project/kup/internal/vm"
	"github.com/kup-project/kup/internal/vm/trial"
	"github.com/kup-project/kup/internal/vm/vmtest"
)

// TestMemcachedLivesThroughUpdates takes memcached from 6.1 to 6.12 and back, under load from another machine.
func TestMemcachedLivesThroughUpdates(t *testing.T) {
	network := vmtest.Net(t)
	g := start(t, trial.Config{Programs: []string{"/usr/bin/memcached"}, Net: network})
	must(t, g, "kup", "run", "-d", "--name", "cache", "--", "memcached", "-u", "memcache", "-l", vm.GuestAddr, "-m", "256")
	l := &load.Load{Items: 5000, ItemBytes: 4000, Think: 20 * time.Millisecond}
	dial := func(ctx context.Context) (net.Conn, error) { return dialUntilUp(ctx, network, vm.GuestAddr+":11211") }
	if err := l.Connect(t.Context(), 20, dial); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Fill(); err != nil {
		t.Fatal(err)
	}
	l.Run()
	time.Sleep(time.Second)
	for _, line := range []string{"6.12", "6.1"} {
		update(t, g, line)
		time.Sleep(2 * time.Second)
		if n, err := l.Failed(); n != 0 {
			t.Fatalf("after the update to %s, %d connections have failed: %v", line, n, err)
		}
	}
	if err := l.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := l.Check(); err != nil {
		t.Fatal(err)
	}
}
