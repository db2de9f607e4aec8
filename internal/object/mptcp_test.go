package object

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/refuse"
)

// listenMPTCP makes a listening socket. The options are by name.
func listenMPTCP(t *testing.T, address string, options map[string]int) int {
	t.Helper()
	at := netip.MustParseAddrPort(address)
	family := kernel.AFInet
	if at.Addr().Is6() {
		family = kernel.AFInet6
	}
	fd := sure(kernel.Socket(family, kernel.SockStream, protocolMPTCP))
	for name, v := range options {
		o := optionByName[name]
		if err := kernel.SetSocketInt(fd, o.level, o.option, v); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if err := bindInet(fd, at, at.Addr().Is6(), kernel.IPProtoTCP); err != nil {
		t.Fatal(err)
	}
	if err := kernel.Listen(fd, 77); err != nil {
		t.Fatal(err)
	}
	return fd
}

// connectMPTCP connects with a socket of a protocol, and returns it and the accepted one.
func connectMPTCP(t *testing.T, listener, protocol int) (client, accepted int) {
	t.Helper()
	at := sure(localAddr(listener))
	family := kernel.AFInet
	if at.Addr().Is6() {
		family = kernel.AFInet6
	}
	client = sure(kernel.Socket(family, kernel.SockStream, protocol))
	if err := kernel.ConnectTo(client, sure(encodeAddr(at, at.Addr().Is6()))); err != nil {
		t.Fatal(err)
	}
	return client, sure(kernel.Accept(listener))
}

func protocolOf(fd int) int { return sure(kernel.SocketInt(fd, kernel.SolSocket, kernel.SoProtocol)) }

// sameOptions compares the options of two sockets of a kind.
func sameOptions(t *testing.T, before, after []image.SocketOption) {
	t.Helper()
	if len(before) != len(after) {
		t.Fatalf("%d options, expected %d", len(after), len(before))
	}
	for i, b := range before {
		if a := after[i]; a.Name != b.Name || a.Value != b.Value || !bytes.Equal(a.Data, b.Data) {
			t.Errorf("%s %d %x, expected %s %d %x", a.Name, a.Value, a.Data, b.Name, b.Value, b.Data)
		}
	}
}

func TestMPTCPListenerSurvivesRestore(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for i, c := range []struct {
		address string
		options map[string]int
	}{
		{"127.0.0.1:7001", nil},
		{"127.0.0.1:7001", map[string]int{"SO_REUSEADDR": 1, "TCP_NODELAY": 1, "SO_MARK": 5, "TCP_DEFER_ACCEPT": 7}},
		{"0.0.0.0:7002", map[string]int{"SO_REUSEADDR": 1, "SO_REUSEPORT": 1, "IP_TOS": 16}},
		{"[::1]:7003", map[string]int{"SO_REUSEADDR": 1, "IPV6_V6ONLY": 1}},
		{"[::]:7004", map[string]int{"SO_REUSEADDR": 1, "TCP_FASTOPEN": 3}},
		{"[::]:7005", map[string]int{"SO_REUSEADDR": 1, optSndBuf: 30000}},
		{"[::]:7005", map[string]int{"SO_REUSEADDR": 1, optRcvBuf: 40000, "IPV6_V6ONLY": 1}},
	} {
		t.Run(fmt.Sprint(i, " ", c.address), func(t *testing.T) {
			listener := listenMPTCP(t, c.address, c.options)
			all := onTCP | onIdle | onInet6
			before := append(sure(captureOptions(listener, all)), sure(captureBuffers(listener))...)
			state, fds := cycle(t, mptcp, nil, listener)
			defer kernel.Close(fds[0])
			t.Logf("%+v", state.Files[0].MPTCP)
			if got := protocolOf(fds[0]); got != protocolMPTCP {
				t.Errorf("protocol %d", got)
			}
			if info := sure(readTCPInfo(fds[0])); info.state != kernel.TCPStateListen || info.sacked != 77 {
				t.Errorf("state %d, backlog %d", info.state, info.sacked)
			}
			if got := sure(localAddr(fds[0])).String(); got != c.address {
				t.Errorf("address %s", got)
			}
			sameOptions(t, before, append(sure(captureOptions(fds[0], all)), sure(captureBuffers(fds[0]))...))
		})
	}
}

// TestMPTCPConnectionOfPlainPeer restores a listener and what it has accepted from a peer that does not speak MPTCP.
func TestMPTCPConnectionOfPlainPeer(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for _, address := range []string{"127.0.0.1:7001", "[::1]:7002"} {
		listener := listenMPTCP(t, address, map[string]int{"SO_REUSEADDR": 1})
		client, accepted := connectMPTCP(t, listener, kernel.IPProtoTCP)
		defer kernel.Close(client)
		if err := writeAll(client, []byte("waits")); err != nil {
			t.Fatal(err)
		}
		var listeners []int
		// The listener comes back first, as Rebuild.Create has it.
		_, fds := cycle(t, tcp, func() { _, listeners = cycle(t, mptcp, nil, listener) }, accepted)
		if got := receive(t, fds[0], 5); string(got) != "waits" {
			t.Errorf("%s: got %q", address, got)
		}
		if err := writeAll(fds[0], []byte("answer")); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, client, 6); string(got) != "answer" {
			t.Errorf("%s: got %q", address, got)
		}
		other, second := connectMPTCP(t, listeners[0], protocolMPTCP)
		if got := protocolOf(second); got != protocolMPTCP {
			t.Errorf("%s: a peer that speaks MPTCP got a socket of protocol %d", address, got)
		}
		for _, fd := range []int{other, second, listeners[0], fds[0]} {
			kernel.Close(fd)
		}
	}
}

func TestMPTCPUnconnectedSurvivesRestore(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	fresh := sure(kernel.Socket(kernel.AFInet6, kernel.SockStream, protocolMPTCP))
	bound := sure(kernel.Socket(kernel.AFInet, kernel.SockStream, protocolMPTCP))
	if err := bindInet(bound, netip.MustParseAddrPort("127.0.0.1:7001"), false, kernel.IPProtoTCP); err != nil {
		t.Fatal(err)
	}
	_, fds := cycle(t, mptcp, nil, fresh, bound)
	for i, port := range []uint16{0, 7001} {
		if got := protocolOf(fds[i]); got != protocolMPTCP {
			t.Errorf("protocol %d", got)
		}
		if got := sure(localAddr(fds[i])).Port(); got != port {
			t.Errorf("port %d, expected %d", got, port)
		}
	}
}

func TestMPTCPRefusals(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	listener := listenMPTCP(t, "127.0.0.1:7001", nil)
	client, accepted := connectMPTCP(t, listener, protocolMPTCP)
	fallen, _ := connectMPTCP(t, listenMPTCP(t, "127.0.0.1:7002", nil), protocolMPTCP)
	plain := sure(net.Listen("tcp4", "127.0.0.1:7003"))
	defer plain.Close()
	alone := sure(kernel.Socket(kernel.AFInet, kernel.SockStream, protocolMPTCP))
	if err := kernel.ConnectTo(alone, sure(encodeAddr(netip.MustParseAddrPort("127.0.0.1:7003"), false))); err != nil {
		t.Fatal(err)
	}
	if err := kernel.Shutdown(fallen, kernel.ShutWrite); err != nil {
		t.Fatal(err)
	}
	waiting := sure(net.Dial("tcp4", "127.0.0.1:7001"))
	defer waiting.Close()
	for name, fd := range map[string]int{
		"client": client, "accepted": accepted, "half-closed": fallen, "fallen back": alone, "connection waits": listener,
	} {
		d := descriptorOf(t, fd)
		if h, err := handlerOf(d); err != nil || h != mptcp {
			t.Errorf("%s: handler %v, %v", name, h, err)
		}
		err := mptcp.Check(&Capture{}, d)
		if !errors.Is(err, refuse.ErrRefused) {
			t.Errorf("%s: got %v", name, err)
		}
		t.Logf("%s: %v", name, err)
	}
}

// TestMPTCPRequestWhileFrozen has a client connect after the capture.
func TestMPTCPRequestWhileFrozen(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	c := &Capture{State: &image.State{}}
	d := descriptorOf(t, listenMPTCP(t, "127.0.0.1:7001", nil))
	if err := mptcp.Capture(c, d, &image.OpenFile{}); err != nil {
		t.Fatal(err)
	}
	if err := c.CaptureNetwork(); err != nil {
		t.Fatal(err)
	}
	waiting := sure(net.Dial("tcp4", "127.0.0.1:7001"))
	defer waiting.Close()
	if err := c.SealNetwork(); !errors.Is(err, refuse.ErrRefused) {
		t.Errorf("got %v", err)
	}
	if err := c.ReleaseSockets(); err != nil {
		t.Fatal(err)
	}
}

func TestMPTCPComesBackAsTCPWithoutMPTCP(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	listener := listenMPTCP(t, "[::]:7001", map[string]int{"SO_REUSEADDR": 1, "IPV6_V6ONLY": 1, optSndBuf: 30000})
	_, fds := cycle(t, mptcp, func() {
		if err := os.WriteFile("/proc/sys/net/mptcp/enabled", []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
	}, listener)
	if got := protocolOf(fds[0]); got != kernel.IPProtoTCP {
		t.Errorf("protocol %d", got)
	}
	if only := sure(kernel.SocketInt(fds[0], v6OnlyOption.level, v6OnlyOption.option)); only != 1 {
		t.Error("it hears IPv4 now")
	}
	if got := sure(kernel.SocketInt(fds[0], kernel.SolSocket, kernel.SoSndBuf)); got != 60000 {
		t.Errorf("SO_SNDBUF %d", got)
	}
	conn := sure(net.DialTimeout("tcp6", "[::1]:7001", 10*time.Second))
	conn.Close()
	kernel.Close(sure(kernel.Accept(fds[0])))
}

// TestMPTCPOnlyIPv6OfListener asks sock_diag, as for kernels whose getsockopt does not tell.
func TestMPTCPOnlyIPv6OfListener(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for i, want := range []int{0, 1} {
		d := descriptorOf(t, listenMPTCP(t, fmt.Sprintf("[::]:%d", 7001+i), map[string]int{"IPV6_V6ONLY": want}))
		only, found, err := listenerOnlyIPv6(d.Stat.Ino)
		if err != nil || !found || only != (want == 1) {
			t.Errorf("got %v, %v, %v; expected %d", only, found, err, want)
		}
	}
}
