package netlock

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/kup-project/kup/internal/kernel"
)

// inNamespace runs the calling test in a network namespace of its own, in a new process. It returns false where the test has
// been run that way.
func inNamespace(t *testing.T) bool {
	t.Helper()
	const env = "KUP_TEST_NAMESPACE"
	if os.Getenv(env) == t.Name() {
		lo, err := netlink.LinkByName("lo")
		check(t, err)
		check(t, netlink.LinkSetUp(lo))
		return true
	}
	cmd := exec.Command("unshare", "--net", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), env+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in a network namespace: %v\n%s", err, out)
	}
	t.Logf("%s", out)
	return false
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// connect returns a client's connection and the server's descriptor for it.
func connect(t *testing.T, network, address string) (client *net.TCPConn, server net.Conn, listener net.Listener) {
	t.Helper()
	listener, err := net.Listen(network, address)
	check(t, err)
	conn, err := net.Dial(network, listener.Addr().String())
	check(t, err)
	server, err = listener.Accept()
	check(t, err)
	t.Cleanup(func() { conn.Close(); server.Close(); listener.Close() })
	return conn.(*net.TCPConn), server, listener
}

func addrPort(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }

// vanish ends a socket as a checkpoint does: in repair mode, without a word.
func vanish(t *testing.T, conn net.Conn) {
	t.Helper()
	file, err := conn.(*net.TCPConn).File()
	check(t, err)
	check(t, kernel.SetSocketInt(int(file.Fd()), kernel.SolTCP, kernel.TCPRepair, kernel.TCPRepairOn))
	file.Close()
	conn.Close()
}

// reset reports whether the peer of a vanished socket learns of it when it sends.
func reset(t *testing.T, client *net.TCPConn) bool {
	t.Helper()
	_, err := client.Write([]byte("are you there?"))
	check(t, err)
	check(t, client.SetReadDeadline(time.Now().Add(time.Second)))
	_, err = client.Read(make([]byte, 1))
	if errors.Is(err, kernel.ECONNRESET) {
		return true
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read: %v", err)
	}
	return false
}

func TestLockKeepsConnectionsOfVanishedSockets(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for _, n := range []struct{ network, address string }{{"tcp4", "127.0.0.1:0"}, {"tcp6", "[::1]:0"}} {
		client, server, listener := connect(t, n.network, n.address)
		other, otherServer, _ := connect(t, n.network, n.address)
		check(t, Lock("test", []Endpoint{
			{kernel.IPProtoTCP, addrPort(server.LocalAddr()), addrPort(server.RemoteAddr())},
			{Protocol: kernel.IPProtoTCP, Local: addrPort(listener.Addr())},
		}))
		vanish(t, server)
		listener.Close()
		if reset(t, client) {
			t.Errorf("%s: a locked connection was reset", n.network)
		}
		if _, err := net.DialTimeout(n.network, listener.Addr().String(), 300*time.Millisecond); err == nil || errors.Is(err, kernel.ECONNREFUSED) {
			t.Errorf("%s: connecting to a locked address: %v", n.network, err)
		}
		vanish(t, otherServer)
		if !reset(t, other) {
			t.Errorf("%s: a connection that was not locked should be reset", n.network)
		}
		check(t, Unlock("test"))
		if !reset(t, client) {
			t.Errorf("%s: after unlocking, the connection should be reset", n.network)
		}
		if locks, err := List(); err != nil || len(locks) != 0 {
			t.Errorf("left: %v, %v", locks, err)
		}
	}
}

func TestLockOfManyEndpoints(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	var all []Endpoint
	for i := range 10000 {
		all = append(all, Endpoint{kernel.IPProtoTCP, netip.MustParseAddrPort("127.0.0.1:80"), netip.MustParseAddrPort(fmt.Sprintf("127.0.%d.1:%d", i%250, 1000+i))})
		all = append(all, Endpoint{kernel.IPProtoTCP, netip.MustParseAddrPort("[::1]:80"), netip.MustParseAddrPort(fmt.Sprintf("[fd00::%x]:80", i))})
	}
	all = append(all,
		Endpoint{Protocol: kernel.IPProtoUDP, Local: netip.MustParseAddrPort("0.0.0.0:53")},
		Endpoint{Protocol: kernel.IPProtoUDP, Local: netip.MustParseAddrPort("[::]:53")},
		Endpoint{Protocol: kernel.IPProtoUDP, Local: netip.MustParseAddrPort("[::1]:54")})
	start := time.Now()
	check(t, Lock("many", all))
	t.Logf("%d endpoints in %v", len(all), time.Since(start))
	check(t, Lock("many", all)) // replaces
	check(t, BlockAll("boot"))
	locks, err := List()
	check(t, err)
	slices.Sort(locks)
	if !slices.Equal(locks, []string{"boot", "many"}) {
		t.Errorf("locks: %v", locks)
	}
	check(t, Unlock("many"))
	check(t, Unlock("many"))
	if exists, err := Exists("boot"); err != nil || !exists {
		t.Errorf("boot: %v, %v", exists, err)
	}
}

// TestBlockAllSilencesAHost lets a client in another namespace knock at a host where nobody listens.
func TestBlockAllSilencesAHost(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for _, command := range []string{
		"ip link add kup0 type veth peer name kup1",
		"ip addr add 10.77.0.1/24 dev kup0", "ip link set kup0 up",
	} {
		out, err := exec.Command("sh", "-c", command).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	// The client moves its end of the wire into its own namespace, then says what came of each attempt to connect.
	client := exec.Command("unshare", "--net", "bash", "-c", `
		read go; ip addr add 10.77.0.2/24 dev kup1; ip link set kup1 up
		echo ready
		while read line; do
			timeout 1 bash -c 'exec 3<>/dev/tcp/10.77.0.1/7001' 2>/dev/null; echo $?
		done`)
	in, err := client.StdinPipe()
	check(t, err)
	out, err := client.StdoutPipe()
	check(t, err)
	check(t, client.Start())
	defer func() { in.Close(); client.Wait() }()
	say := func(what string) { _, err := fmt.Fprintln(in, what); check(t, err) }
	hear := func() (word string) { _, err := fmt.Fscanln(out, &word); check(t, err); return word }

	link, err := netlink.LinkByName("kup1")
	check(t, err)
	for deadline := time.Now().Add(5 * time.Second); ; { // until unshare has made the namespace
		err = netlink.LinkSetNsPid(link, client.Process.Pid)
		check(t, err)
		if _, err := netlink.LinkByName("kup1"); err != nil || time.Now().After(deadline) {
			break
		}
	}
	say("go")
	if hear() != "ready" {
		t.Fatal("the client is not ready")
	}
	const refused, timedOut = "1", "124"
	say("knock")
	if got := hear(); got != refused {
		t.Errorf("without lock, connect ended with %s", got)
	}
	check(t, BlockAll("boot"))
	say("knock")
	if got := hear(); got != timedOut {
		t.Errorf("with lock, connect ended with %s", got)
	}
	check(t, Unlock("boot"))
	say("knock")
	if got := hear(); got != refused {
		t.Errorf("after unlocking, connect ended with %s", got)
	}
}
