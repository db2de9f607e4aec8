package object

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// endOfFile reads from a socket until its end and returns what came.
func endOfFile(t *testing.T, fd int) string {
	t.Helper()
	var got []byte
	for deadline := time.Now().Add(20 * time.Second); ; {
		m, err := kernel.ReceiveMessage(fd, 100, 0, kernel.MsgDontWait)
		if errors.Is(err, kernel.EAGAIN) && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		if len(m.Data) == 0 {
			return string(got)
		}
		got = append(got, m.Data...)
	}
}

// vanish closes a connection without a word to its peer, as the end of a kernel does.
func vanish(c *net.TCPConn) error {
	f, err := c.File()
	if err != nil {
		return err
	}
	defer f.Close()
	return errors.Join(kernel.SetSocketInt(int(f.Fd()), kernel.SolTCP, kernel.TCPRepair, kernel.TCPRepairOn), c.Close())
}

func TestTCPHalfClosedConnectionsSurviveRestore(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for _, address := range []string{"127.0.0.1:7001", "[::1]:7002"} {
		network := "tcp4"
		if address[0] == '[' {
			network = "tcp6"
		}
		t.Run(address+" CLOSE_WAIT", func(t *testing.T) {
			a := newTCPApp(t, network, address)
			sure(a.peer.Write([]byte("last words")))
			a.check(a.peer.CloseWrite())
			a.check(awaitState(a.conn, kernel.TCPStateCloseWait))
			fd := a.cycleConn(image.TCPCloseWait)
			if got := endOfFile(t, fd); got != "last words" {
				t.Errorf("got %q", got)
			}
			a.check(writeAll(fd, []byte("and mine")))
			a.check(kernel.Shutdown(fd, kernel.ShutWrite))
			a.expectAtPeer("and mine")
			a.check(awaitState(fd, kernel.TCPStateClose))
		})
		t.Run(address+" CLOSE_WAIT without a peer", func(t *testing.T) {
			a := newTCPApp(t, network, address)
			sure(a.peer.Write([]byte("last words")))
			a.check(a.peer.CloseWrite())
			a.check(awaitState(a.conn, kernel.TCPStateCloseWait))
			a.check(vanish(a.peer))
			fd := a.cycleConn(image.TCPCloseWait)
			if got := endOfFile(t, fd); got != "last words" {
				t.Errorf("got %q", got)
			}
		})
		t.Run(address+" FIN_WAIT2", func(t *testing.T) {
			a := newTCPApp(t, network, address)
			a.check(writeAll(a.conn, []byte("last words")))
			a.check(kernel.Shutdown(a.conn, kernel.ShutWrite))
			a.check(awaitState(a.conn, kernel.TCPStateFinWait2))
			fd := a.cycleConn(image.TCPFinWait2)
			a.expectAtPeer("last words")
			sure(a.peer.Write([]byte("and mine")))
			a.check(a.peer.Close())
			if got := endOfFile(t, fd); got != "and mine" {
				t.Errorf("got %q", got)
			}
		})
		t.Run(address+" FIN_WAIT1 with data", func(t *testing.T) {
			a := newTCPApp(t, network, address)
			data := noise(8 << 20)
			sent := sure(kernel.SendTo(a.conn, data, kernel.MsgDontWait, nil))
			a.check(kernel.Shutdown(a.conn, kernel.ShutWrite))
			fd := a.cycleConn(image.TCPFinWait1)
			a.expectAtPeer(string(data[:sent]))
			sure(a.peer.Write([]byte("and mine")))
			a.check(a.peer.Close())
			if got := endOfFile(t, fd); got != "and mine" {
				t.Errorf("got %q", got)
			}
		})
		t.Run(address+" LAST_ACK with data", func(t *testing.T) {
			a := newTCPApp(t, network, address)
			data := noise(8 << 20)
			sure(a.peer.Write([]byte("last words")))
			a.check(a.peer.CloseWrite())
			a.check(awaitState(a.conn, kernel.TCPStateCloseWait))
			sent := sure(kernel.SendTo(a.conn, data, kernel.MsgDontWait, nil))
			a.check(kernel.Shutdown(a.conn, kernel.ShutWrite))
			fd := a.cycleConn(image.TCPLastAck)
			a.expectAtPeer(string(data[:sent]))
			a.check(awaitState(fd, kernel.TCPStateClose))
			if got := endOfFile(t, fd); got != "last words" {
				t.Errorf("got %q", got)
			}
		})
		t.Run(address+" closed from both sides", func(t *testing.T) {
			a := newTCPApp(t, network, address)
			sure(a.peer.Write([]byte("last words")))
			a.check(a.peer.CloseWrite())
			a.check(awaitState(a.conn, kernel.TCPStateCloseWait))
			a.check(kernel.Shutdown(a.conn, kernel.ShutWrite))
			a.check(awaitState(a.conn, kernel.TCPStateClose))
			fd := a.cycleConn(image.TCPClosed)
			if got := endOfFile(t, fd); got != "last words" {
				t.Errorf("got %q", got)
			}
		})
		t.Run(address+" reset", func(t *testing.T) {
			a := newTCPApp(t, network, address)
			a.check(a.peer.SetLinger(0))
			a.check(a.peer.Close())
			a.check(awaitState(a.conn, kernel.TCPStateClose))
			fd := a.cycleConn(image.TCPClosed)
			if _, err := kernel.ReceiveMessage(fd, 1, 0, kernel.MsgDontWait); !errors.Is(err, kernel.ECONNRESET) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// cycleConn captures and rebuilds both sockets, expects the connection to be in a state, and returns its descriptor.
func (a *tcpApp) cycleConn(state image.TCPState) int {
	a.t.Helper()
	was, fds := cycle(a.t, tcp, nil, a.listener, a.conn)
	a.t.Cleanup(func() { kernel.Close(fds[0]); kernel.Close(fds[1]) })
	if got := was.Files[1].TCP.State; got != state {
		a.t.Errorf("captured in state %s", got)
	}
	return fds[1]
}

func (a *tcpApp) expectAtPeer(want string) {
	a.t.Helper()
	a.check(a.peer.SetReadDeadline(time.Now().Add(20 * time.Second)))
	if got := sure(io.ReadAll(a.peer)); string(got) != want {
		a.t.Errorf("the peer got %d bytes, not the %d that were sent", len(got), len(want))
	}
}

// TestTCPBothEndsInOneTree rebuilds two sockets that are connected to each other.
func TestTCPBothEndsInOneTree(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	a := newTCPApp(t, "tcp4", "127.0.0.1:7001")
	file := sure(a.peer.File())
	peer := sure(kernel.Dup(int(file.Fd())))
	file.Close()
	a.peer.Close()
	toPeer, toConn := noise(3<<20), noise(100_000)
	sentToPeer := sure(kernel.SendTo(a.conn, toPeer, kernel.MsgDontWait, nil))
	sentToConn := sure(kernel.SendTo(peer, toConn, kernel.MsgDontWait, nil))
	_, fds := cycle(t, tcp, nil, a.listener, a.conn, peer)
	if got := receive(t, fds[2], sentToPeer); string(got) != string(toPeer[:sentToPeer]) {
		t.Error("wrong bytes in one direction")
	}
	if got := receive(t, fds[1], sentToConn); string(got) != string(toConn[:sentToConn]) {
		t.Error("wrong bytes in the other direction")
	}
	a.check(writeAll(fds[1], []byte("alive")))
	receive(t, fds[2], 5)
	a.check(writeAll(fds[2], []byte("alive")))
	receive(t, fds[1], 5)
}

// TestTCPOptionsSurviveRestore sets options to unusual values.
func TestTCPOptionsSurviveRestore(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	a := newTCPApp(t, "tcp6", "[::1]:7001")
	set := map[string]int{
		"SO_KEEPALIVE": 1, "SO_OOBINLINE": 1, "SO_PRIORITY": 3, "SO_RCVLOWAT": 5, "SO_TIMESTAMP": 1, "SO_MARK": 9, "SO_REUSEPORT": 1,
		"IPV6_TCLASS": 8, "IPV6_UNICAST_HOPS": 33, "IPV6_RECVERR": 1, "IP_TOS": 16,
		"TCP_NODELAY": 1, "TCP_KEEPIDLE": 77, "TCP_KEEPINTVL": 11, "TCP_KEEPCNT": 3, "TCP_SYNCNT": 4, "TCP_USER_TIMEOUT": 12345,
		"TCP_NOTSENT_LOWAT": 99999, "TCP_LINGER2": 17,
	}
	for name, value := range set {
		o := optionByName[name]
		a.check(kernel.SetSocketInt(a.conn, o.level, o.option, value))
	}
	a.check(kernel.SetSocketInt(a.conn, kernel.SolSocket, kernel.SoRcvBuf, 300_000))
	a.check(kernel.SetSocketOption(a.conn, kernel.SolSocket, 21, []byte{9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}))
	a.check(kernel.SetSocketOption(a.conn, kernel.SolTCP, 13, []byte("reno\x00")))
	a.check(kernel.SetSocketInt(a.listener, kernel.SolTCP, 9, 7))
	a.check(kernel.ChangeOwner(a.conn, 1234, 2345))
	was, fds := cycle(t, tcp, nil, a.listener, a.conn)
	is := &Capture{State: &image.State{}}
	for i, fd := range fds {
		now := &image.OpenFile{}
		a.check(tcp.Capture(is, descriptorOf(t, fd), now))
		a.check(is.CaptureNetwork())
		before := was.Files[i].TCP
		if now.TCP.Owner != before.Owner || now.TCP.Backlog != before.Backlog {
			t.Errorf("was %+v, is %+v", before, now.TCP)
		}
		for j, o := range before.Options {
			if n := now.TCP.Options[j]; n.Value != o.Value || string(n.Data) != string(o.Data) {
				t.Errorf("%s was %d %x, is %d %x", o.Name, o.Value, o.Data, n.Value, n.Data)
			}
		}
	}
	a.check(is.ReleaseSockets())
}

// BenchmarkTCP captures and rebuilds connections.
func BenchmarkTCP(b *testing.B) {
	listener := sure(net.Listen("tcp4", "127.0.0.1:0"))
	defer listener.Close()
	var fds []int
	for range b.N {
		peer := sure(net.Dial("tcp4", listener.Addr().String()))
		defer peer.Close()
		file := sure(sure(listener.Accept()).(*net.TCPConn).File())
		defer file.Close()
		fds = append(fds, int(file.Fd()))
	}
	c := &Capture{State: &image.State{}}
	b.ResetTimer()
	for i, fd := range fds {
		d := sure(readDescriptor(os.Getpid(), fd, "test"))
		d.File = fd
		if err := tcp.Check(c, d); err != nil {
			b.Fatal(err)
		}
		if err := tcp.Capture(c, d, &image.OpenFile{ID: i}); err != nil {
			b.Fatal(err)
		}
	}
	if err := c.CaptureNetwork(); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	if err := c.ReleaseSockets(); err != nil {
		b.Fatal(err)
	}
}
