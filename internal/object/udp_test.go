package object

import (
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

func udpSocket(t *testing.T, address string) int {
	t.Helper()
	a := netip.MustParseAddrPort(address)
	family := kernel.AFInet
	if a.Addr().Is6() {
		family = kernel.AFInet6
	}
	fd := sure(kernel.Socket(family, kernel.SockDgram, 0))
	if err := bindInet(fd, a, a.Addr().Is6(), kernel.IPProtoUDP); err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestUDPQueuesSurviveRestore(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for _, c := range []struct {
		bind, to, from string
		connected      bool
	}{
		{"127.0.0.1:7001", "127.0.0.1:7001", "127.0.0.1:7777", false},
		{"0.0.0.0:7002", "127.0.0.5:7002", "127.0.0.7:7777", false},
		{"[::]:7003", "[::1]:7003", "[::1]:7777", false},
		{"[::]:7004", "127.0.0.1:7004", "127.0.0.1:7777", false},
		{"127.0.0.1:7005", "127.0.0.1:7005", "127.0.0.1:7777", true},
		{"[::1]:7006", "[::1]:7006", "[::1]:7777", true},
	} {
		t.Run(fmt.Sprintf("%s connected=%v", c.bind, c.connected), func(t *testing.T) {
			server, client := udpSocket(t, c.bind), udpSocket(t, c.from)
			defer kernel.Close(client)
			to := netip.MustParseAddrPort(c.to)
			toAddr := sure(encodeAddr(to, to.Addr().Is6()))
			if c.connected {
				from := netip.MustParseAddrPort(c.from)
				if err := kernel.ConnectTo(server, sure(encodeAddr(from, from.Addr().Is6()))); err != nil {
					t.Fatal(err)
				}
			}
			messages := []string{"one", "", "three", string(noise(60000))}
			for _, m := range messages {
				sure(kernel.SendTo(client, []byte(m), 0, toAddr))
			}
			was, fds := cycle(t, udp, nil, server)
			defer kernel.Close(fds[0])
			for i, want := range messages {
				m, err := kernel.ReceiveMessage(fds[0], 1<<16, 0, kernel.MsgDontWait)
				if err != nil {
					t.Fatalf("datagram %d: %v", i, err)
				}
				if string(m.Data) != want {
					t.Errorf("datagram %d: got %d bytes, want %d", i, len(m.Data), len(want))
				}
				from := sure(decodeAddr(m.From))
				if got := netip.AddrPortFrom(from.Addr().Unmap(), from.Port()); got.String() != c.from {
					t.Errorf("datagram %d: from %s", i, got)
				}
			}
			if got := was.Files[0].UDP.Queue[0].To; got.Addr().Unmap() != to.Addr().Unmap() || got.Port() != to.Port() {
				t.Errorf("captured as sent to %s", got)
			}
			sure(kernel.SendTo(client, []byte("alive"), 0, toAddr))
			expect(t, fds[0], "alive")
			if c.connected {
				sure(kernel.SendTo(fds[0], []byte("alive"), 0, nil))
				expect(t, client, "alive")
			}
		})
	}
}

func TestUDPOptionsAndGroupsSurviveRestore(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	fd := udpSocket(t, "[::]:7001")
	for name, value := range map[string]int{"SO_BROADCAST": 1, "IPV6_MULTICAST_HOPS": 7, "IP_MULTICAST_TTL": 9, "IPV6_RECVPKTINFO": 1} {
		o := optionByName[name]
		if err := kernel.SetSocketInt(fd, o.level, o.option, value); err != nil {
			t.Fatal(err)
		}
	}
	for _, g := range []string{"239.1.2.3", "ff15::77"} {
		if err := joinGroup(fd, image.MulticastGroup{Interface: "lo", Group: netip.MustParseAddr(g)}); err != nil {
			t.Fatal(err)
		}
	}
	was, fds := cycle(t, udp, nil, fd)
	is := &image.UDPSocket{}
	if err := readUDP(&heldSocket{fd: fds[0], pid: os.Getpid(), udp: is}); err != nil {
		t.Fatal(err)
	}
	before := was.Files[0].UDP
	if len(is.Groups) != 2 || fmt.Sprint(is.Groups) != fmt.Sprint(before.Groups) {
		t.Errorf("groups were %v, are %v", before.Groups, is.Groups)
	}
	for i, o := range before.Options {
		if n := is.Options[i]; n.Value != o.Value || string(n.Data) != string(o.Data) {
			t.Errorf("%s was %d %x, is %d %x", o.Name, o.Value, o.Data, n.Value, n.Data)
		}
	}
}
