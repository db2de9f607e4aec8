package object

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

func rebuildUDP(_ *Rebuild, f *image.OpenFile) (int, error) {
	family := kernel.AFInet
	if f.UDP.V6 {
		family = kernel.AFInet6
	}
	fd, err := kernel.Socket(family, kernel.SockDgram, kernel.IPProtoUDP)
	if err != nil {
		return -1, fmt.Errorf("UDP socket: %w", err)
	}
	if err := buildUDP(fd, f.UDP); err != nil {
		kernel.Close(fd)
		return -1, err
	}
	return fd, nil
}

func buildUDP(fd int, s *image.UDPSocket) error {
	if err := kernel.ChangeOwner(fd, s.Owner.UID, s.Owner.GID); err != nil {
		return fmt.Errorf("owner of the socket: %w", err)
	}
	// Until the queue is filled, the socket must get packets by the loopback interface and from everybody.
	var device, others []image.SocketOption
	for _, o := range s.Options {
		if o.Name == "SO_BINDTODEVICE" {
			device = append(device, o)
		} else {
			others = append(others, o)
		}
	}
	if err := setOptions(fd, others, beforeLife); err != nil {
		return err
	}
	if err := setReuse(fd, s.Options); err != nil {
		return err
	}
	if s.Local.Port() != 0 {
		if err := bindInet(fd, s.Local, s.V6, kernel.IPProtoUDP); err != nil {
			return err
		}
	}
	if err := receiveAgain(fd, s); err != nil {
		return err
	}
	if err := setOptions(fd, device, beforeLife); err != nil {
		return err
	}
	if s.Remote.Port() != 0 {
		if err := connectUDP(fd, s); err != nil {
			return err
		}
	}
	if err := restoreBuffers(fd, s.Options); err != nil {
		return err
	}
	if err := setOptions(fd, s.Options, afterBirth); err != nil {
		return err
	}
	for _, name := range []string{"UDP_CORK", "SO_PEEK_OFF"} {
		if err := optionByName[name].set(fd, image.SocketOption{Name: name, Value: int64(option(s.Options, name))}, nil); err != nil {
			return fmt.Errorf("setsockopt %s: %w", name, err)
		}
	}
	return finishUDP(fd, s)
}

func connectUDP(fd int, s *image.UDPSocket) error {
	addr, err := encodeAddr(s.Remote, s.V6)
	if err != nil {
		return err
	}
	switch err = kernel.ConnectTo(fd, addr); {
	case errors.Is(err, kernel.ENETUNREACH), errors.Is(err, kernel.EHOSTUNREACH):
		return conflictf("there is no route from %s to %s; bring the network up first", s.Local.Addr(), s.Remote.Addr())
	case err != nil:
		return fmt.Errorf("connect to %s: %w", s.Remote, err)
	}
	return nil
}

func finishUDP(fd int, s *image.UDPSocket) error {
	for _, g := range s.Groups {
		if err := joinGroup(fd, g); err != nil {
			return err
		}
	}
	for _, half := range []struct {
		shut bool
		how  int
	}{{s.ShutRead, kernel.ShutRead}, {s.ShutWrite, kernel.ShutWrite}} {
		if !half.shut {
			continue
		}
		if err := kernel.Shutdown(fd, half.how); err != nil && !errors.Is(err, kernel.ENOTCONN) { // which shuts all the same
			return fmt.Errorf("shutdown: %w", err)
		}
	}
	return nil
}

// receiveAgain makes the socket receive what waited to be read.
func receiveAgain(fd int, s *image.UDPSocket) error {
	if len(s.Queue) == 0 {
		return nil
	}
	total := 0
	for _, g := range s.Queue {
		total += len(g.Data) + 1024 // bookkeeping
	}
	if err := widenBuffers(fd, 0, total); err != nil {
		return err
	}
	for _, g := range s.Queue {
		datagram := make([]byte, 8, 8+len(g.Data))
		binary.BigEndian.PutUint16(datagram[0:], g.From.Port())
		binary.BigEndian.PutUint16(datagram[2:], s.Local.Port())
		binary.BigEndian.PutUint16(datagram[4:], uint16(8+len(g.Data)))
		datagram = append(datagram, g.Data...)
		if err := inject(g.From.Addr(), arrival(g), kernel.IPProtoUDP, datagram, 6); err != nil {
			return err
		}
	}
	for range 200 {
		is, err := peekEach(fd, s.Local)
		if err != nil {
			return err
		}
		if len(is) >= len(s.Queue) {
			return nil
		}
		time.Sleep(time.Millisecond) // the packets are on their way through the kernel's queues
	}
	return fmt.Errorf("%s did not receive again the datagrams that waited to be read; does a firewall drop packets on the loopback interface?", s.Local)
}

// arrival is the address to which a datagram is sent again: where it came to, or the loopback address, if that was no
// address of this machine's own (a group, a broadcast, an address that is gone).
func arrival(g image.Datagram) netip.Addr {
	to := g.To.Addr().Unmap()
	own, err := net.InterfaceAddrs()
	if err == nil && slices.ContainsFunc(own, func(a net.Addr) bool {
		prefix, err := netip.ParsePrefix(a.String())
		return err == nil && prefix.Addr() == to.WithZone("")
	}) || to.IsLoopback() {
		return to
	}
	if g.From.Addr().Unmap().Is4() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}
