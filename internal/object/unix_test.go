package object

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/refuse"
)

// cycleUnix is cycle for unix sockets, which are captured with a view of all of them.
func cycleUnix(t *testing.T, fds ...int) (*image.State, []int) {
	t.Helper()
	c := &Capture{State: &image.State{}}
	for _, fd := range fds {
		c.descriptors = append(c.descriptors, descriptorOf(t, fd))
	}
	for i, d := range c.descriptors {
		if err := unixSocket.Check(c, d); err != nil {
			t.Fatal(err)
		}
		f := &image.OpenFile{ID: i + 1, Kind: image.KindUnix}
		if err := unixSocket.Capture(c, d, f); err != nil {
			t.Fatal(err)
		}
		c.captured = append(c.captured, captured{d: d, file: f, handler: unixSocket})
	}
	if err := unixSocket.Settle(c); err != nil {
		t.Fatal(err)
	}
	for i, fd := range fds {
		kernel.Close(fd)
		c.descriptors[i].release()
		c.State.Files = append(c.State.Files, *c.captured[i].file)
	}
	r := &Rebuild{State: c.State, fds: map[int]int{}}
	var made []int
	for i := range c.State.Files {
		fd, err := unixSocket.Rebuild(r, &c.State.Files[i])
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, fd)
		t.Cleanup(func() { kernel.Close(fd) })
	}
	return c.State, made
}

func send(t *testing.T, fd int, messages ...string) {
	t.Helper()
	for _, m := range messages {
		sure(kernel.SendTo(fd, []byte(m), kernel.MsgDontWait, nil))
	}
}

// expect reads messages; from a stream, all at once.
func expect(t *testing.T, fd int, messages ...string) {
	t.Helper()
	for _, want := range messages {
		expectOnce(t, fd, want)
	}
	if m, err := kernel.ReceiveMessage(fd, 100, 0, kernel.MsgDontWait); err == nil && len(m.Data) > 0 {
		t.Errorf("%q is left", m.Data)
	}
}

func expectOnce(t *testing.T, fd int, want string) {
	t.Helper()
	m, err := kernel.ReceiveMessage(fd, 1<<20, 0, kernel.MsgDontWait)
	if err != nil {
		t.Fatalf("waiting for %d bytes: %v", len(want), err)
	}
	if string(m.Data) != want {
		t.Errorf("got %d bytes (%.20q), want %d (%.20q)", len(m.Data), m.Data, len(want), want)
	}
}

var unixTypes = map[string]int{"stream": kernel.SockStream, "dgram": kernel.SockDgram, "seqpacket": kernel.SockSeqPacket}

func TestUnixPairsSurviveRestore(t *testing.T) {
	for name, kind := range unixTypes {
		t.Run(name, func(t *testing.T) {
			a, b, err := kernel.SocketPair(kind)
			if err != nil {
				t.Fatal(err)
			}
			long := strings.Repeat("long ", 20000)
			send(t, a, "one", "two", long)
			send(t, b, "back")
			_, fds := cycleUnix(t, a, b)
			if kind == kernel.SockStream {
				expect(t, fds[1], "onetwo"+long)
			} else {
				expect(t, fds[1], "one", "two", long)
			}
			expect(t, fds[0], "back")
			send(t, fds[0], "alive")
			expect(t, fds[1], "alive")
		})
	}
}

func TestUnixPairRemembersItsMaker(t *testing.T) {
	pid := os.Getpid()
	for err := error(nil); err == nil; err = kernel.Kill(pid, 0) {
		if pid--; pid < 300 {
			t.Fatal("no process ID is free")
		}
	}
	a, b, err := kernel.SocketPairAs(kernel.SockStream, kernel.Identity{PID: pid, UID: 1234, GID: 2345})
	if err != nil {
		t.Fatal(err)
	}
	_, fds := cycleUnix(t, a, b)
	for _, fd := range fds {
		is, uid, gid, err := kernel.SocketUcred(fd, kernel.SolSocket, kernel.SoPeerCred)
		if err != nil || is != pid || uid != 1234 || gid != 2345 {
			t.Errorf("SO_PEERCRED: pid %d, uid %d, gid %d, %v", is, uid, gid, err)
		}
	}
}

func TestUnixHalvesSurviveRestore(t *testing.T) {
	a, b, err := kernel.SocketPair(kernel.SockStream)
	if err != nil {
		t.Fatal(err)
	}
	send(t, a, "last")
	if err := kernel.Shutdown(a, kernel.ShutWrite); err != nil {
		t.Fatal(err)
	}
	_, fds := cycleUnix(t, a, b)
	if got := endOfFile(t, fds[1]); got != "last" {
		t.Errorf("got %q", got)
	}
	send(t, fds[1], "back")
	expect(t, fds[0], "back")
}

func TestUnixOrphansSurviveRestore(t *testing.T) {
	for _, reset := range []bool{false, true} {
		a, b, err := kernel.SocketPair(kernel.SockStream)
		if err != nil {
			t.Fatal(err)
		}
		send(t, a, "last")
		if reset {
			send(t, b, "never read")
		}
		kernel.Close(a)
		_, fds := cycleUnix(t, b)
		if !reset {
			if got := endOfFile(t, fds[0]); got != "last" {
				t.Errorf("got %q", got)
			}
			continue
		}
		expectOnce(t, fds[0], "last")
		if _, err := kernel.ReceiveMessage(fds[0], 10, 0, kernel.MsgDontWait); !errors.Is(err, kernel.ECONNRESET) {
			t.Errorf("got %v", err)
		}
	}
}

// TestUnixServersSurviveRestore has a listening socket, a client that is connected to it, and the accepted socket.
func TestUnixServersSurviveRestore(t *testing.T) {
	for name, kind := range unixTypes {
		for _, where := range []string{"path", "abstract", "relative"} {
			if kind == kernel.SockDgram {
				continue
			}
			t.Run(name+" "+where, func(t *testing.T) {
				address, path := "", filepath.Join(t.TempDir(), "s")
				switch where {
				case "path":
					address = path
				case "abstract":
					address, path = fmt.Sprintf("\x00kup-test-%d", os.Getpid()), ""
				case "relative":
					t.Chdir(filepath.Dir(path))
					address = "./s"
				}
				listener := sure(kernel.Socket(kernel.AFUnix, kind, 0))
				client := sure(kernel.Socket(kernel.AFUnix, kind, 0))
				for _, err := range []error{
					kernel.Bind(listener, encodeUnix([]byte(address))), kernel.Listen(listener, 5),
					kernel.ConnectTo(client, encodeUnix([]byte(address))),
				} {
					if err != nil {
						t.Fatal(err)
					}
				}
				accepted := sure(kernel.Accept(listener))
				if path != "" {
					if err := os.Chmod(path, 0o640); err != nil {
						t.Fatal(err)
					}
				}
				if where == "relative" {
					t.Chdir("/")
				}
				send(t, client, "hello")
				was, fds := cycleUnix(t, client, listener, accepted)
				expect(t, fds[2], "hello")
				send(t, fds[2], "hello yourself")
				expect(t, fds[0], "hello yourself")
				if got := string(sure(unixName(kernel.SocketName(fds[2])))); got != address {
					t.Errorf("the accepted socket has the name %q", got)
				}
				if got := string(sure(unixName(kernel.PeerName(fds[0])))); got != address {
					t.Errorf("the client's peer has the name %q", got)
				}
				if was.Files[1].Unix.Backlog != 5 {
					t.Errorf("backlog %d", was.Files[1].Unix.Backlog)
				}
				if path == "" {
					return
				}
				if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
					t.Errorf("node: %v, %v", info, err)
				}
				another := sure(kernel.Socket(kernel.AFUnix, kind, 0))
				defer kernel.Close(another)
				if err := kernel.ConnectTo(another, encodeUnix([]byte(path))); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestUnixDatagramsSurviveRestore(t *testing.T) {
	dir := t.TempDir()
	bound := func(name string) int {
		fd := sure(kernel.Socket(kernel.AFUnix, kernel.SockDgram, 0))
		if err := kernel.Bind(fd, encodeUnix([]byte(filepath.Join(dir, name)))); err != nil {
			t.Fatal(err)
		}
		return fd
	}
	server, client, anonymous := bound("server"), bound("client"), sure(kernel.Socket(kernel.AFUnix, kernel.SockDgram, 0))
	if err := kernel.ConnectTo(client, encodeUnix([]byte(filepath.Join(dir, "server")))); err != nil {
		t.Fatal(err)
	}
	send(t, client, "one", "", "three")
	sure(kernel.SendTo(anonymous, []byte("four"), 0, encodeUnix([]byte(filepath.Join(dir, "server")))))
	_, fds := cycleUnix(t, server, client, anonymous)
	for _, want := range []struct{ data, from string }{{"one", "client"}, {"", "client"}, {"three", "client"}, {"four", ""}} {
		m, err := kernel.ReceiveMessage(fds[0], 100, 0, kernel.MsgDontWait)
		if err != nil {
			t.Fatal(err)
		}
		if from := filepath.Base(string(sure(unixName(m.From, nil)))); string(m.Data) != want.data || want.from != "" && from != want.from {
			t.Errorf("got %q from %q, want %+v", m.Data, from, want)
		}
	}
	send(t, fds[1], "alive")
	expect(t, fds[0], "alive")
}

func TestUnixRefusals(t *testing.T) {
	dir := t.TempDir()
	listener := sure(kernel.Socket(kernel.AFUnix, kernel.SockStream, 0))
	client := sure(kernel.Socket(kernel.AFUnix, kernel.SockStream, 0))
	addr := encodeUnix([]byte(filepath.Join(dir, "s")))
	for _, err := range []error{kernel.Bind(listener, addr), kernel.Listen(listener, 5), kernel.ConnectTo(client, addr)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, fd := range []int{listener, client} {
		c := &Capture{}
		d := descriptorOf(t, fd)
		c.descriptors = []*Descriptor{d}
		err := unixSocket.Check(c, d)
		if !errors.Is(err, refuse.ErrRefused) {
			t.Errorf("got %v", err)
		}
		t.Log(err)
	}
}

func TestUnixAddressInUseIsAConflict(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	foreign := sure(kernel.Socket(kernel.AFUnix, kernel.SockStream, 0))
	defer kernel.Close(foreign)
	for _, err := range []error{kernel.Bind(foreign, encodeUnix([]byte(path))), kernel.Listen(foreign, 1)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r := &Rebuild{fds: map[int]int{}, State: &image.State{Files: []image.OpenFile{{
		ID: 1, Kind: image.KindUnix,
		Unix: &image.UnixSocket{Inode: 1, Type: kernel.SockStream, State: image.UnixListening, Name: []byte(path), Node: &image.UnixNode{Path: path}},
	}}}}
	_, err := unixSocket.Rebuild(r, &r.State.Files[0])
	if !errors.Is(err, ErrConflict) {
		t.Errorf("got %v", err)
	}
	t.Log(err)
}
