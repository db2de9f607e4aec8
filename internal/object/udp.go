package object

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/refuse"
	"github.com/kup-project/kup/internal/tracee"
)

// udp handles UDP sockets over IPv4 and IPv6.
//
// Datagrams that wait to be read are kept with their senders' addresses, and received once more at restore: kup sends them
// to the socket with the old source address. What comes between capture and restore is lost, as UDP allows; capture itself
// drops nothing. Datagrams keep no receive timestamps, and those of senders with link-local addresses appear to come in by
// the loopback interface.
var udp = &Handler{
	Kind:    image.KindUDP,
	Claims:  func(d *Descriptor) bool { return isSocket(d, kernel.AFInet, kernel.IPProtoUDP) },
	Check:   checkUDP,
	Undo:    undoUDP,
	Capture: captureUDP,
	Rebuild: rebuildUDP,
}

func checkUDP(c *Capture, d *Descriptor) error {
	if err := checkSocket(c, d); err != nil {
		return err
	}
	encap, err := kernel.SocketInt(d.File, kernel.SolUDP, kernel.UDPEncap)
	if err != nil && !unknownOption(err) {
		return fmt.Errorf("%s: UDP_ENCAP: %w", d, err)
	}
	if encap != 0 {
		return refuse.Errorf("%s: the UDP socket serves a tunnel in the kernel (UDP_ENCAP), which kup cannot checkpoint; close the tunnel", d)
	}
	events, err := kernel.PollNow(d.File, 0)
	if err != nil {
		return fmt.Errorf("%s: poll: %w", d, err)
	}
	if events&kernel.PollErr != 0 {
		return refuse.Errorf("%s: an error or a notification waits on the UDP socket; let the application read it and try again", d)
	}
	pending, err := kernel.SocketQueue(d.File, kernel.SIOCOutQ)
	if err != nil {
		return fmt.Errorf("%s: SIOCOUTQ: %w", d, err)
	}
	if cork, err := kernel.SocketInt(d.File, kernel.SolUDP, kernel.UDPCork); err == nil && cork != 0 && pending > 0 {
		return refuse.Errorf("%s: a datagram is being put together (UDP_CORK), which kup cannot checkpoint; try again", d)
	}
	return nil
}

// destinationOption is what makes recvmsg(2) tell the address that a datagram was sent to.
func destinationOption(v6 bool) (level, option int) {
	if v6 {
		return kernel.SolIPv6, kernel.IPv6PktInfo
	}
	return kernel.SolIP, kernel.IPPktInfo
}

func undoUDP(b *tracee.Batch, d *Descriptor) error {
	v6, err := isInet6(d.File)
	if err != nil {
		return err
	}
	level, name := destinationOption(v6)
	was, err := kernel.SocketInt(d.File, level, name)
	if err != nil {
		return fmt.Errorf("%s: IP_PKTINFO: %w", d, err)
	}
	b.Call(kernel.SysSetsockopt, d.FD, level, name, b.Bytes(binary.LittleEndian.AppendUint32(nil, uint32(was))), 4)
	return undoSocket(b, d)
}

// captureUDP keeps the socket for CaptureNetwork.
func captureUDP(c *Capture, d *Descriptor, f *image.OpenFile) error {
	f.UDP = &image.UDPSocket{Owner: socketOwner(d)}
	c.hold(d).udp = f.UDP
	return nil
}

func readUDP(h *heldSocket) (err error) {
	fd, s := h.fd, h.udp
	if s.V6, err = isInet6(fd); err != nil {
		return err
	}
	kinds := onUDP
	if s.V6 {
		kinds |= onInet6 | onUDP6
	}
	if s.Options, err = captureOptions(fd, kinds); err != nil {
		return err
	}
	buffers, err := captureBuffers(fd)
	if err != nil {
		return err
	}
	s.Options = append(s.Options, buffers...)
	if s.Local, err = localAddr(fd); err != nil {
		return err
	}
	if s.Remote, err = remoteAddr(fd); err != nil && !errors.Is(err, kernel.ENOTCONN) {
		return err
	}
	events, err := kernel.PollNow(fd, kernel.PollIn|kernel.PollRdHup)
	if err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	s.ShutRead, s.ShutWrite = events&kernel.PollRdHup != 0, events&kernel.PollHup != 0
	if s.Groups, err = memberships(h, s.V6); err != nil {
		return err
	}
	if events&kernel.PollIn != 0 {
		s.Queue, err = peekDatagrams(fd, s)
	}
	return err
}

// peekDatagrams reads what waits to be read, and leaves it there.
func peekDatagrams(fd int, s *image.UDPSocket) ([]image.Datagram, error) {
	if option(s.Options, "UDP_GRO") != 0 {
		return nil, refuse.Passingf("datagrams wait to be read that the kernel has joined (UDP_GRO), which kup cannot checkpoint; let the application read them and try again")
	}
	level, name := destinationOption(s.V6)
	was, err := kernel.SocketInt(fd, level, name)
	if err != nil {
		return nil, fmt.Errorf("IP_PKTINFO: %w", err)
	}
	if err := kernel.SetSocketInt(fd, level, name, 1); err != nil {
		return nil, fmt.Errorf("IP_PKTINFO: %w", err)
	}
	queue, err := peekEach(fd, s.Local)
	return queue, errors.Join(err, kernel.SetSocketInt(fd, level, name, was))
}

func peekEach(fd int, local netip.AddrPort) ([]image.Datagram, error) {
	restore, err := peekFrom(fd, 0)
	if err != nil {
		return nil, err
	}
	var queue []image.Datagram
	for {
		const largest, control = 1 << 16, 512
		m, err := kernel.ReceiveMessage(fd, largest, control, kernel.MsgPeek|kernel.MsgDontWait)
		if errors.Is(err, kernel.EAGAIN) {
			break
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("receive queue: %w", err), restore())
		}
		if len(m.From) == 0 {
			break // not a datagram, but the end after shutdown(2)
		}
		g := image.Datagram{Data: m.Data, To: local}
		if g.From, err = decodeAddr(m.From); err != nil {
			return nil, errors.Join(err, restore())
		}
		if to := destination(m.Control); to.IsValid() {
			g.To = netip.AddrPortFrom(to, local.Port())
		}
		queue = append(queue, g)
	}
	return queue, restore()
}

// destination finds the address in the control messages IP_PKTINFO (struct in_pktinfo) and IPV6_PKTINFO (struct in6_pktinfo),
// see ip(7) and ipv6(7).
func destination(control []byte) netip.Addr {
	const header = 16 // struct cmsghdr
	for len(control) >= header {
		size := int(binary.LittleEndian.Uint64(control))
		level, kind := int(binary.LittleEndian.Uint32(control[8:])), int(binary.LittleEndian.Uint32(control[12:]))
		if size < header || size > len(control) {
			break
		}
		data := control[header:size]
		switch {
		case level == kernel.SolIP && kind == kernel.IPPktInfo && len(data) >= 12:
			return netip.AddrFrom4([4]byte(data[8:12]))
		case level == kernel.SolIPv6 && kind == kernel.IPv6PktInfoMessage && len(data) >= 16:
			return netip.AddrFrom16([16]byte(data[:16]))
		}
		control = control[min((size+7)&^7, len(control)):]
	}
	return netip.Addr{}
}
