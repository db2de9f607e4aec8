package object

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/refuse"
)

// inNamespace runs the calling test in a network namespace of its own, in a new process. It returns false where the test has
// been run that way.
func inNamespace(t *testing.T) bool {
	t.Helper()
	const env = "KUP_TEST_NAMESPACE"
	if os.Getenv(env) == t.Name() {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			t.Fatal(err)
		}
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

// tcpApp is the application's side: sockets that are captured, closed and rebuilt, and the peer, which stays.
type tcpApp struct {
	t        *testing.T
	listener int
	conn     int
	peer     *net.TCPConn
}

// sure is for what can only fail if the machine does.
func sure[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newTCPApp(t *testing.T, network, address string) *tcpApp {
	t.Helper()
	family := kernel.AFInet6
	if network == "tcp4" {
		family = kernel.AFInet
	}
	a := &tcpApp{t: t}
	a.listener = sure(kernel.Socket(family, kernel.SockStream, 0))
	a.check(kernel.SetSocketInt(a.listener, kernel.SolSocket, kernel.SoReuseAddr, 1))
	bound := netip.MustParseAddrPort(address)
	if bound.Addr().Is4() && family == kernel.AFInet6 {
		bound = netip.MustParseAddrPort("[::]:" + fmt.Sprint(bound.Port()))
	}
	a.check(bindInet(a.listener, bound, family == kernel.AFInet6, kernel.IPProtoTCP))
	a.check(kernel.Listen(a.listener, 77))
	a.peer = sure(net.Dial("tcp", address)).(*net.TCPConn)
	a.conn = sure(kernel.Accept(a.listener))
	t.Cleanup(func() { a.peer.Close() })
	return a
}

func (a *tcpApp) check(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// descriptorOf describes one of this process's own descriptors.
func descriptorOf(t *testing.T, fd int) *Descriptor {
	t.Helper()
	d := sure(readDescriptor(os.Getpid(), fd, "test"))
	a := sure(kernel.Dup(fd))
	d.File = a
	t.Cleanup(d.release)
	return d
}

// cycle captures sockets, ends them, and makes them anew. It returns the new descriptors.
func cycle(t *testing.T, h *Handler, between func(), fds ...int) (*image.State, []int) {
	t.Helper()
	c := &Capture{State: &image.State{}}
	for i, fd := range fds {
		d := descriptorOf(t, fd)
		if !h.Claims(d) {
			t.Fatalf("%s (%s) is not claimed", d, d.Link)
		}
		if err := h.Check(c, d); err != nil {
			t.Fatal(err)
		}
		f := &image.OpenFile{ID: i + 1, Kind: h.Kind}
		if err := h.Capture(c, d, f); err != nil {
			t.Fatal(err)
		}
		d.release()
		c.captured = append(c.captured, captured{d: d, file: f, handler: h})
	}
	if h.Settle != nil {
		if err := h.Settle(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.CaptureNetwork(); err != nil {
		t.Fatal(err)
	}
	if err := c.SealNetwork(); err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		kernel.Close(fd)
	}
	if err := c.ReleaseSockets(); err != nil {
		t.Fatal(err)
	}
	if between != nil {
		between()
	}
	for _, one := range c.captured {
		c.State.Files = append(c.State.Files, *one.file)
	}
	r := &Rebuild{State: c.State, fds: map[int]int{}}
	var made []int
	for i := range c.State.Files {
		f := &c.State.Files[i]
		if _, done := r.fds[f.ID]; !done {
			fd, err := h.Rebuild(r, f)
			if err != nil {
				t.Fatal(err)
			}
			r.put(f.ID, fd)
		}
		made = append(made, r.fds[f.ID])
	}
	if err := r.ReleaseNetwork(); err != nil {
		t.Fatal(err)
	}
	return c.State, made
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// receive reads n bytes from a blocking socket.
func receive(t *testing.T, fd, n int) []byte {
	t.Helper()
	got := make([]byte, 0, n)
	for deadline := time.Now().Add(20 * time.Second); len(got) < n; {
		m, err := kernel.ReceiveMessage(fd, n-len(got), 0, kernel.MsgDontWait)
		if errors.Is(err, kernel.EAGAIN) && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			t.Fatalf("receive, %d of %d bytes: %v", len(got), n, err)
		}
		if len(m.Data) == 0 {
			t.Fatalf("end of file after %d of %d bytes", len(got), n)
		}
		got = append(got, m.Data...)
	}
	return got
}

func TestTCPConnectionSurvivesRestore(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for _, net := range []struct{ network, address string }{
		{"tcp4", "127.0.0.1:7001"}, {"tcp6", "[::1]:7002"}, {"tcp6", "127.0.0.1:7003"},
	} {
		for _, size := range []struct{ in, out int }{{0, 0}, {10, 20}, {100_000, 70_000}, {0, 8 << 20}, {3 << 20, 5 << 20}} {
			t.Run(fmt.Sprintf("%s %s in=%d out=%d", net.network, net.address, size.in, size.out), func(t *testing.T) {
				surviveRestore(t, newTCPApp(t, net.network, net.address), size.in, size.out)
			})
		}
	}
}

func surviveRestore(t *testing.T, a *tcpApp, in, out int) {
	inData, outData := noise(in), noise(out)
	// Each side sends what fits; what does not is sent after the restore.
	inSent, outSent := 0, 0
	peerFD := sure(a.peer.File())
	defer peerFD.Close()
	for inSent < in {
		n, err := kernel.SendTo(int(peerFD.Fd()), inData[inSent:], kernel.MsgDontWait, nil)
		if err != nil {
			break
		}
		inSent += n
	}
	for outSent < out {
		n, err := kernel.SendTo(a.conn, outData[outSent:], kernel.MsgDontWait, nil)
		if err != nil {
			break
		}
		outSent += n
	}
	state, fds := cycle(t, tcp, nil, a.listener, a.conn)
	k := state.Files[1].TCP.Connection
	t.Logf("%s: %d bytes to receive, %d to send, %d of them unsent, mss %d, scales %d %d", state.Files[1].TCP.State,
		len(k.ReceiveQueue), len(k.SendQueue), k.Unsent, k.MSS, k.SendScale, k.ReceiveScale)
	listener, conn := fds[0], fds[1]
	defer kernel.Close(listener)
	defer kernel.Close(conn)

	a.peer.SetDeadline(time.Now().Add(30 * time.Second))
	results := make(chan error, 2)
	go func() {
		_, err := a.peer.Write(inData[inSent:])
		results <- err
	}()
	go func() {
		got := make([]byte, outSent)
		_, err := io.ReadFull(a.peer, got)
		if err == nil && !bytes.Equal(got, outData[:outSent]) {
			err = errors.New("the peer got other bytes than were sent")
		}
		results <- err
	}()
	if got := receive(t, conn, in); !bytes.Equal(got, inData) {
		t.Error("the application got other bytes than were sent")
	}
	for range 2 {
		a.check(<-results)
	}
	// And it lives on: both directions, a new connection to the listener, the end.
	a.check(writeAll(conn, []byte("answer")))
	got := make([]byte, 6)
	sure(io.ReadFull(a.peer, got))
	sure(a.peer.Write([]byte("question")))
	if got := receive(t, conn, 8); string(got) != "question" {
		t.Errorf("got %q", got)
	}
	second := sure(net.Dial("tcp", a.peer.RemoteAddr().String()))
	defer second.Close()
	accepted := sure(kernel.Accept(listener))
	defer kernel.Close(accepted)
	a.check(kernel.Shutdown(conn, kernel.ShutWrite))
	if n, err := a.peer.Read(got); err != io.EOF {
		t.Errorf("after the end: %d bytes, %v", n, err)
	}
}

func TestTCPRefusesConnectionsThatWait(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	a := newTCPApp(t, "tcp4", "127.0.0.1:7001")
	waiting := sure(net.Dial("tcp", "127.0.0.1:7001"))
	defer waiting.Close()
	err := tcp.Check(&Capture{}, descriptorOf(t, a.listener))
	if !errors.Is(err, refuse.ErrRefused) {
		t.Errorf("got %v", err)
	}
	t.Log(err)
}

func TestTCPConflictNamesTheAddress(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	foreign := sure(net.Listen("tcp4", "127.0.0.1:7001"))
	defer foreign.Close()
	for _, address := range []string{"127.0.0.1:7001", "192.0.2.77:7001"} {
		_, err := newTCP(&image.TCPSocket{State: image.TCPListen, Local: netip.MustParseAddrPort(address), Backlog: 1})
		if !errors.Is(err, ErrConflict) {
			t.Errorf("%s: got %v", address, err)
		}
		t.Log(err)
	}
}

// TestTCPCaptureLeavesNoTrace captures a connection and thaws it again.
func TestTCPCaptureLeavesNoTrace(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	a := newTCPApp(t, "tcp4", "127.0.0.1:7001")
	sure(a.peer.Write([]byte("waits")))
	c := &Capture{State: &image.State{}}
	before := sure(captureOptions(a.conn, onTCP))
	d := descriptorOf(t, a.conn)
	a.check(tcp.Capture(c, d, &image.OpenFile{}))
	a.check(c.CaptureNetwork())
	a.check(c.SealNetwork())
	a.check(c.UnsealNetwork())
	a.check(c.ReleaseSockets())
	a.check(kernel.DetachFilter(a.conn)) // as undoSocket has it done
	after := sure(captureOptions(a.conn, onTCP))
	for i := range before {
		if before[i].Value != after[i].Value || !bytes.Equal(before[i].Data, after[i].Data) {
			t.Errorf("%s was %d %x, is %d %x", before[i].Name, before[i].Value, before[i].Data, after[i].Value, after[i].Data)
		}
	}
	if got := receive(t, a.conn, 5); string(got) != "waits" {
		t.Errorf("got %q", got)
	}
	a.check(writeAll(a.conn, []byte("lives")))
	sure(io.ReadFull(a.peer, make([]byte, 5)))
}

func TestTakenByConnectionsThatWereClosed(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	at := netip.MustParseAddrPort("127.0.0.1:7001")
	listener := func() int { return sure(kernel.Socket(kernel.AFInet, kernel.SockStream, 0)) }
	first := listener()
	if err := bindInet(first, at, false, kernel.IPProtoTCP); err != nil {
		t.Fatal(err)
	}
	if err := kernel.Listen(first, 1); err != nil {
		t.Fatal(err)
	}
	peer := sure(net.Dial("tcp", at.String()))
	kernel.Close(sure(kernel.Accept(first)))
	peer.Close()
	kernel.Close(first)
	err := bindInet(listener(), at, false, kernel.IPProtoTCP)
	if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "TIME_WAIT") {
		t.Errorf("got %v", err)
	}
}
