package object

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/refuse"
	"github.com/kup-project/kup/internal/tracee"
)

// tcp handles TCP sockets over IPv4 and IPv6.
//
// Connections are read last, by CaptureNetwork, when everything else is captured. Until then the kernel takes what peers send,
// as for any application that is slow. Then the socket is made deaf by a filter that drops every packet: what was acknowledged
// after its queues were read would be lost. The filter stays until the application is thawed. Listening sockets drop requests
// for new connections from the beginning; clients repeat them.
//
// TCP_REPAIR (net/ipv4/tcp.c) shows sequence numbers and the send queue. Turning it off takes CAP_NET_ADMIN, which the
// application rarely has, so it cannot be left to injected code: it is on for microseconds, and a kernel.Will turns it off
// should kup die in them. Connections are put into repair once more by SealNetwork before the application is killed; such
// sockets vanish without a word to their peers.
//
// What cannot be restored: connections that are just being established or that wait to be accepted (refused, to be tried
// again), urgent data, upper layer protocols such as kTLS, TCP-AO. ECN and congestion state begin anew. MD5 signatures
// (RFC 2385) do not show: such a connection breaks.
var tcp = &Handler{
	Kind:    image.KindTCP,
	Claims:  func(d *Descriptor) bool { return isSocket(d, kernel.AFInet, kernel.IPProtoTCP) },
	Check:   checkTCP,
	Undo:    undoSocket,
	Capture: captureTCP,
	Rebuild: rebuildTCP,
}

// tcpInfo has the first fields of struct tcp_info, see TCP_INFO in tcp(7).
type tcpInfo struct {
	state       uint8
	options     uint8
	sendScale   int
	recvScale   int
	unacked     uint32 // of a listening socket: connections that wait to be accepted
	sacked      uint32 // of a listening socket: the backlog
	tcpInfoSize int
}

// Bits of tcpi_options, include/uapi/linux/tcp.h.
const (
	tcpOptTimestamps = 1
	tcpOptSACK       = 2
	tcpOptWScale     = 4
	tcpOptUsecTS     = 64 // since v6.7
)

func readTCPInfo(fd int) (i tcpInfo, err error) {
	var buf [104]byte
	if i.tcpInfoSize, err = kernel.SocketOption(fd, kernel.SolTCP, kernel.TCPInfo, buf[:]); err != nil {
		return i, fmt.Errorf("TCP_INFO: %w", err)
	}
	i.state, i.options = buf[0], buf[5]
	i.sendScale, i.recvScale = int(buf[6]&0xf), int(buf[6]>>4)
	i.unacked = binary.LittleEndian.Uint32(buf[24:])
	i.sacked = binary.LittleEndian.Uint32(buf[28:])
	return i, nil
}

var tcpStates = map[uint8]image.TCPState{
	kernel.TCPStateEstablished: image.TCPEstablished,
	kernel.TCPStateFinWait1:    image.TCPFinWait1,
	kernel.TCPStateFinWait2:    image.TCPFinWait2,
	kernel.TCPStateClose:       image.TCPClosed,
	kernel.TCPStateCloseWait:   image.TCPCloseWait,
	kernel.TCPStateLastAck:     image.TCPLastAck,
	kernel.TCPStateListen:      image.TCPListen,
	kernel.TCPStateClosing:     image.TCPClosing,
}

func checkTCP(c *Capture, d *Descriptor) error {
	if err := checkSocket(c, d); err != nil {
		return err
	}
	info, err := readTCPInfo(d.File)
	if err != nil {
		return fmt.Errorf("%s: %w", d, err)
	}
	switch info.state {
	case kernel.TCPStateSynSent, kernel.TCPStateSynRecv:
		return unfinishedConnection(d.String())
	case kernel.TCPStateListen:
		if info.unacked > 0 {
			return pendingConnections(d.String(), int(info.unacked))
		}
		return nil
	}
	if _, known := tcpStates[info.state]; !known {
		return refuse.Errorf("%s: a TCP socket in state %d, which kup cannot checkpoint; try again", d, info.state)
	}
	return checkTCPExtras(d, info.state)
}

// pendingConnections refuses a listening socket with connections that no descriptor stands for.
func pendingConnections(name string, n int) error {
	return refuse.Passingf("%s: %d connections wait to be accepted, which kup cannot checkpoint; try again", name, n)
}

func unfinishedConnection(name string) error {
	return refuse.Passingf("%s: the connection is just being established; try again", name)
}

// checkTCPExtras refuses what can be added to a connection but not restored.
func checkTCPExtras(d *Descriptor, state uint8) error {
	name := make([]byte, 16)
	n, err := kernel.SocketOption(d.File, kernel.SolTCP, kernel.TCPULP, name)
	if err != nil && !unknownOption(err) {
		return fmt.Errorf("%s: TCP_ULP: %w", d, err)
	}
	if err == nil && n > 0 {
		return refuse.Errorf("%s: the upper layer protocol %q is in use on the connection, which kup cannot checkpoint; do without it", d, cString(name[:n]))
	}
	if _, err := kernel.SocketOption(d.File, kernel.SolTCP, kernel.TCPAOInfo, make([]byte, 64)); err == nil {
		return refuse.Errorf("%s: TCP-AO signs the connection's segments, and its keys cannot be read; do without it", d)
	}
	if state == kernel.TCPStateClose {
		return nil
	}
	events, err := kernel.PollNow(d.File, kernel.PollPri)
	if err != nil {
		return fmt.Errorf("%s: poll: %w", d, err)
	}
	switch {
	case events&kernel.PollPri != 0:
		return refuse.Errorf("%s: urgent data waits on the connection, which kup cannot checkpoint; let the application read it and try again", d)
	case events&kernel.PollErr != 0:
		return refuse.Errorf("%s: an error or a notification waits on the connection; let the application read it and try again", d)
	}
	return nil
}

func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// undoSocket takes back what captures of sockets do, in the owner: the filter, the place of peeking, and for owners that may
// do so (CAP_NET_ADMIN) also repair mode, which resets SO_REUSEADDR.
func undoSocket(b *tracee.Batch, d *Descriptor) error {
	integer := func(v int) *tracee.Buffer { return b.Bytes(binary.LittleEndian.AppendUint32(nil, uint32(v))) }
	set := func(level, option int, value *tracee.Buffer) {
		b.Call(kernel.SysSetsockopt, d.FD, level, option, value, 4)
	}
	minus := integer(-1)
	if isSocket(d, kernel.AFInet, kernel.IPProtoTCP) {
		reuse, err := kernel.SocketInt(d.File, kernel.SolSocket, kernel.SoReuseAddr)
		if err != nil {
			return fmt.Errorf("%s: SO_REUSEADDR: %w", d, err)
		}
		set(kernel.SolTCP, kernel.TCPRepair, minus) // TCP_REPAIR_OFF_NO_WP
		set(kernel.SolSocket, kernel.SoReuseAddr, integer(reuse))
	}
	off, err := kernel.SocketInt(d.File, kernel.SolSocket, kernel.SoPeekOff)
	if err != nil && !unknownOption(err) {
		return fmt.Errorf("%s: SO_PEEK_OFF: %w", d, err)
	}
	switch {
	case err == nil && off >= 0:
		set(kernel.SolSocket, kernel.SoPeekOff, integer(off))
	case err == nil && !isSocket(d, kernel.AFInet, kernel.IPProtoTCP):
		set(kernel.SolSocket, kernel.SoPeekOff, minus)
	}
	set(kernel.SolSocket, kernel.SoDetachFilter, minus) // the value does not matter
	return nil
}

// attachFilter attaches one of ours, unless it is there already.
func attachFilter(fd int, program []kernel.Instruction) error {
	if err := kernel.AttachFilter(fd, program); err != nil {
		return fmt.Errorf("SO_ATTACH_FILTER: %w", err)
	}
	return nil
}

// detachFilter takes away a filter that an earlier kup may have left.
func detachFilter(fd int) error {
	if err := kernel.DetachFilter(fd); err != nil && !errors.Is(err, kernel.ENOENT) {
		return fmt.Errorf("SO_DETACH_FILTER: %w", err)
	}
	return nil
}
