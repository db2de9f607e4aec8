package object

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// Flags of a TCP header.
const (
	tcpFlagFIN = 0x01
	tcpFlagACK = 0x10
)

// InjectedMark is the mark (SO_MARK) of packets that kup makes itself, in place of those that the peers sent before the
// checkpoint. Locks let them pass.
const InjectedMark = 0x6b7570

// receiveFIN makes a connection receive the end of its peer's data: the FIN of a peer that has closed its side is long
// acknowledged and will not come again.
func receiveFIN(fd int, s *image.TCPSocket) error {
	info, err := readTCPInfo(fd)
	if err != nil {
		return err
	}
	acknowledged := s.Connection.SendSeq
	switch info.state {
	case kernel.TCPStateCloseWait, kernel.TCPStateLastAck, kernel.TCPStateClosing, kernel.TCPStateClose:
		return nil // the peer is a rebuilt socket too, and was faster
	case kernel.TCPStateFinWait1, kernel.TCPStateFinWait2:
		acknowledged++ // what is in the queue includes the FIN, SendSeq does not
	}
	unacked, err := kernel.SocketQueue(fd, kernel.SIOCOutQ)
	if err != nil {
		return fmt.Errorf("SIOCOUTQ: %w", err)
	}
	return receiveSegment(fd, s, tcpFlagFIN|tcpFlagACK, acknowledged-uint32(unacked))
}

// receiveSegment makes a connection receive an empty segment from its peer, and waits until that has changed its state.
func receiveSegment(fd int, s *image.TCPSocket, flags byte, acknowledged uint32) error {
	before, err := readTCPInfo(fd)
	if err != nil {
		return err
	}
	k := s.Connection
	header := make([]byte, 20)
	binary.BigEndian.PutUint16(header[0:], s.Remote.Port())
	binary.BigEndian.PutUint16(header[2:], s.Local.Port())
	binary.BigEndian.PutUint32(header[4:], k.ReceiveSeq)
	binary.BigEndian.PutUint32(header[8:], acknowledged)
	header[12], header[13] = 5<<4, flags
	binary.BigEndian.PutUint16(header[14:], uint16(min(k.Window.SendWindow>>k.SendScale, 0xffff)))
	if err := inject(s.Remote.Addr(), s.Local.Addr(), kernel.IPProtoTCP, header, 16); err != nil {
		return err
	}
	for range 200 {
		now, err := readTCPInfo(fd)
		if err != nil {
			return err
		}
		if now.state != before.state {
			return nil
		}
		time.Sleep(time.Millisecond) // the packet is on its way through the kernel's queues
	}
	return fmt.Errorf("%s did not receive the end that %s had sent before the checkpoint; does a firewall drop packets on the loopback interface?", s.Local, s.Remote)
}

// inject sends a packet to a local address as if it came from another one. checksum is where the transport header has its
// checksum.
func inject(from, to netip.Addr, protocol int, payload []byte, checksum int) error {
	from, to = from.Unmap().WithZone(""), to.Unmap()
	var header []byte
	family := kernel.AFInet
	if from.Is4() {
		header = headerV4(from, to, protocol, len(payload))
	} else {
		family = kernel.AFInet6
		header = headerV6(from, to, protocol, len(payload))
	}
	binary.BigEndian.PutUint16(payload[checksum:], 0)
	sum := transportSum(from, to, protocol, payload)
	if sum == 0 && protocol == kernel.IPProtoUDP {
		sum = 0xffff // 0 says that there is no checksum: RFC 768
	}
	binary.BigEndian.PutUint16(payload[checksum:], sum)
	fd, err := kernel.Socket(family, kernel.SockRaw, kernel.IPProtoRaw) // which includes IP_HDRINCL: raw(7)
	if err != nil {
		return fmt.Errorf("raw socket: %w", err)
	}
	defer kernel.Close(fd)
	if err := kernel.SetSocketInt(fd, kernel.SolSocket, kernel.SoMark, InjectedMark); err != nil {
		return fmt.Errorf("SO_MARK: %w", err)
	}
	if err := kernel.SetSocketInt(fd, kernel.SolSocket, kernel.SoSndBufForce, 1<<18); err != nil {
		return fmt.Errorf("SO_SNDBUFFORCE: %w", err)
	}
	addr, err := encodeAddr(netip.AddrPortFrom(to, 0), family == kernel.AFInet6)
	if err != nil {
		return err
	}
	if _, err := kernel.SendTo(fd, append(header, payload...), 0, addr); err != nil {
		return fmt.Errorf("packet from %s to %s: %w", from, to, err)
	}
	return nil
}

// headerV4 makes an IPv4 header (RFC 791); the kernel fills in length, identification and checksum.
func headerV4(from, to netip.Addr, protocol, payload int) []byte {
	h := make([]byte, 20)
	h[0], h[8], h[9] = 4<<4|5, 64, byte(protocol)
	binary.BigEndian.PutUint16(h[2:], uint16(20+payload))
	copy(h[12:], from.AsSlice())
	copy(h[16:], to.AsSlice())
	return h
}

// headerV6 makes an IPv6 header (RFC 8200).
func headerV6(from, to netip.Addr, protocol, payload int) []byte {
	h := make([]byte, 40)
	h[0], h[6], h[7] = 6<<4, byte(protocol), 64
	binary.BigEndian.PutUint16(h[4:], uint16(payload))
	copy(h[8:], from.AsSlice())
	copy(h[24:], to.AsSlice())
	return h
}

// transportSum is the checksum over the pseudo header and the segment (RFC 793, RFC 8200 section 8.1).
func transportSum(from, to netip.Addr, protocol int, segment []byte) uint16 {
	sum := uint32(protocol) + uint32(len(segment))
	for _, part := range [][]byte{from.AsSlice(), to.AsSlice(), segment} {
		for i := 0; i < len(part); i += 2 {
			word := uint32(part[i]) << 8
			if i+1 < len(part) {
				word |= uint32(part[i+1])
			}
			sum += word
		}
		for sum>>16 != 0 {
			sum = sum&0xffff + sum>>16
		}
	}
	return ^uint16(sum)
}
