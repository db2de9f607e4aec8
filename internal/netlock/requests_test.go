package netlock

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/kernel"
)

func TestLockRequestsLeavesConnections(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for _, n := range []struct{ network, address string }{{"tcp4", "127.0.0.1:0"}, {"tcp6", "[::1]:0"}, {"tcp", "[::]:0"}} {
		client, server, listener := connect(t, n.network, n.address)
		lock, err := LockRequests("test", []Endpoint{{Protocol: kernel.IPProtoTCP, Local: addrPort(listener.Addr())}})
		check(t, err)
		if _, err := net.DialTimeout(n.network, listener.Addr().String(), 300*time.Millisecond); err == nil || errors.Is(err, kernel.ECONNREFUSED) {
			t.Errorf("%s: connecting while requests are locked: %v", n.network, err)
		}
		_, err = client.Write([]byte("there"))
		check(t, err)
		buf := make([]byte, 5)
		check(t, server.SetReadDeadline(time.Now().Add(10*time.Second)))
		_, err = server.Read(buf)
		check(t, err)
		_, err = server.Write([]byte("back"))
		check(t, err)
		check(t, client.SetReadDeadline(time.Now().Add(10*time.Second)))
		_, err = client.Read(buf)
		check(t, err)
		check(t, Unlock("test"))
		check(t, lock.Keep())
		again, err := net.Dial(n.network, listener.Addr().String())
		check(t, err)
		again.Close()
		locks, err := List()
		check(t, err)
		if len(locks) != 0 {
			t.Errorf("%s: left: %v", n.network, locks)
		}
	}
}
