package trial

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/kup-project/kup/internal/demo/load"
	"github.com/kup-project/kup/internal/vm"
)

const (
	// Memcached is the path of the program, for Config.Programs.
	Memcached = "/usr/bin/memcached"
	// Cache is the name under which it is in kup's care.
	Cache     = "cache"
	cachePort = ":11211"
	startTime = 30 * time.Second // the longest that a server may take until it listens
)

// StartMemcached starts a memcached under kup's care, with so much memory for items, and connects its clients over the guest's network.
func (g *Guest) StartMemcached(ctx context.Context, megabytes, connections int, l *load.Load) error {
	const spare = 100 // connections that nobody uses
	if _, err := g.Output(ctx,
		"kup", "run", "-d", "--name", Cache, "--",
		"memcached", "-u", "memcache", "-l", vm.GuestAddr, "-m", fmt.Sprint(megabytes), "-c", fmt.Sprint(connections+spare),
	); err != nil {
		return err
	}
	return l.Connect(ctx, connections, func(ctx context.Context) (net.Conn, error) {
		return g.config.Net.DialUntilUp(ctx, vm.GuestAddr+cachePort, startTime)
	})
}
