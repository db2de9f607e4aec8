package object

import (
	"encoding/binary"
	"fmt"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/refuse"
)

// captureTCP reads a listening socket, and keeps others for CaptureNetwork: as long as they hear, nothing is lost and nobody
// has to send anything twice. A listening socket becomes deaf at once, lest connections pile up in it.
func captureTCP(c *Capture, d *Descriptor, f *image.OpenFile) error {
	info, err := readTCPInfo(d.File)
	if err != nil {
		return fmt.Errorf("%s: %w", d, err)
	}
	f.TCP = &image.TCPSocket{State: tcpStates[info.state], Owner: socketOwner(d)}
	h := c.hold(d)
	h.tcp = f.TCP
	if f.TCP.State != image.TCPListen {
		return nil
	}
	if err = c.readTCP(h); err == nil {
		err = h.captureOptions()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d, err)
	}
	return nil
}

// readTCP makes a socket deaf and reads it.
func (c *Capture) readTCP(h *heldSocket) (err error) {
	fd, s := h.fd, h.tcp
	if s.V6, err = isInet6(fd); err != nil {
		return err
	}
	// The kernel works off what the socket's backlog holds before these calls return.
	if s.State == image.TCPListen {
		err = attachFilter(fd, silenceSYN)
	} else {
		err = c.sockets.silence(fd)
	}
	if err != nil {
		return err
	}
	info, err := readTCPInfo(fd)
	if err != nil {
		return err
	}
	s.State = tcpStates[info.state] // as it is now, that nothing can change it any more
	if s.Local, err = localAddr(fd); err != nil {
		return err
	}
	switch s.State {
	case image.TCPListen:
		s.Backlog = int(info.sacked)
		if info.unacked > 0 {
			return pendingConnections(h.name, int(info.unacked))
		}
	case image.TCPClosed:
		if s.Ended, err = endOf(fd); err != nil {
			return err
		}
	default:
		if s.Remote, err = remoteAddr(fd); err != nil {
			return err
		}
		if s.Connection, err = c.readConnection(h, info); err != nil {
			return err
		}
	}
	return nil
}

// captureOptions completes what readTCP has read.
func (h *heldSocket) captureOptions() (err error) {
	h.tcp.Options, err = captureTCPOptions(h.fd, h.tcp)
	return err
}

func captureTCPOptions(fd int, s *image.TCPSocket) ([]image.SocketOption, error) {
	kinds := onTCP
	if s.State == image.TCPListen || s.State == image.TCPClosed && s.Ended == nil {
		kinds |= onIdle
	}
	if s.V6 {
		kinds |= onInet6
	}
	options, err := captureOptions(fd, kinds)
	if err != nil {
		return nil, err
	}
	buffers, err := captureBuffers(fd)
	return append(options, buffers...), err
}

// endOf tells a socket whose connection has ended from one that never had a connection: the former reads as end of file.
func endOf(fd int) (*image.TCPEnd, error) {
	events, err := kernel.PollNow(fd, kernel.PollIn|kernel.PollRdHup)
	if err != nil {
		return nil, fmt.Errorf("poll: %w", err)
	}
	if events&kernel.PollRdHup == 0 {
		return nil, nil
	}
	end := &image.TCPEnd{Reset: events&kernel.PollErr != 0}
	end.Unread, err = peekStream(fd)
	return end, err
}

// readConnection reads a connection that has been made deaf.
func (c *Capture) readConnection(h *heldSocket, info tcpInfo) (*image.TCPConnection, error) {
	fd, state := h.fd, h.tcp.State
	k := &image.TCPConnection{
		ShutWrite:    state == image.TCPFinWait1 || state == image.TCPFinWait2 || state == image.TCPClosing || state == image.TCPLastAck,
		FinReceived:  state == image.TCPCloseWait || state == image.TCPClosing || state == image.TCPLastAck,
		WindowScale:  info.options&tcpOptWScale != 0,
		SendScale:    info.sendScale,
		ReceiveScale: info.recvScale,
		SACK:         info.options&tcpOptSACK != 0,
		Timestamps:   info.options&tcpOptTimestamps != 0,
		Microseconds: info.options&tcpOptUsecTS != 0,
	}
	events, err := kernel.PollNow(fd, kernel.PollPri)
	if err != nil {
		return nil, fmt.Errorf("poll: %w", err)
	}
	if events&kernel.PollPri != 0 {
		return nil, refuse.Passingf("urgent data has come, which kup cannot checkpoint; let the application read it and try again")
	}
	if err := c.repaired(h, func() error { return readRepaired(fd, k) }); err != nil {
		return nil, err
	}
	k.ReceiveQueue, err = peekStream(fd)
	return k, err
}

// readRepaired reads what only TCP_REPAIR shows.
func readRepaired(fd int, k *image.TCPConnection) error {
	unacked, err := kernel.SocketQueue(fd, kernel.SIOCOutQ)
	if err != nil {
		return fmt.Errorf("SIOCOUTQ: %w", err)
	}
	if k.Unsent, err = kernel.SocketQueue(fd, kernel.SIOCOutQNSD); err != nil {
		return fmt.Errorf("SIOCOUTQNSD: %w", err)
	}
	if k.MSS, err = kernel.SocketInt(fd, kernel.SolTCP, kernel.TCPMaxSeg); err != nil {
		return fmt.Errorf("TCP_MAXSEG: %w", err)
	}
	if k.Timestamps {
		stamp, err := kernel.SocketInt(fd, kernel.SolTCP, kernel.TCPTimestamp)
		if err != nil {
			return fmt.Errorf("TCP_TIMESTAMP: %w", err)
		}
		k.Timestamp = uint32(stamp)
	}
	window := make([]byte, 20)
	if _, err := kernel.SocketOption(fd, kernel.SolTCP, kernel.TCPRepairWindow, window); err != nil {
		return fmt.Errorf("TCP_REPAIR_WINDOW: %w", err)
	}
	k.Window = decodeWindow(window)
	if k.ReceiveSeq, err = queueSeq(fd, kernel.TCPReceiveQueue); err != nil {
		return err
	}
	if k.SendSeq, err = queueSeq(fd, kernel.TCPSendQueue); err != nil {
		return err
	}
	// A FIN takes a sequence number: the peer's is the last that was received, ours stands behind all data.
	if k.FinReceived {
		k.ReceiveSeq--
	}
	if k.ShutWrite {
		k.SendSeq--
		unacked = max(unacked-1, 0)
		k.Unsent = max(k.Unsent-1, 0)
	}
	k.SendQueue, err = peekSendQueue(fd, unacked)
	return err
}

func queueSeq(fd, queue int) (uint32, error) {
	if err := kernel.SetSocketInt(fd, kernel.SolTCP, kernel.TCPRepairQueue, queue); err != nil {
		return 0, fmt.Errorf("TCP_REPAIR_QUEUE %d: %w", queue, err)
	}
	seq, err := kernel.SocketInt(fd, kernel.SolTCP, kernel.TCPQueueSeq)
	if err != nil {
		return 0, fmt.Errorf("TCP_QUEUE_SEQ of queue %d: %w", queue, err)
	}
	return uint32(seq), nil
}

// peekSendQueue reads the last n bytes of the send queue, which TCP_REPAIR_QUEUE has selected. The queue can begin with bytes
// that were acknowledged as part of a segment that was not.
func peekSendQueue(fd, n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	const segment = 1 << 16
	m, err := kernel.ReceiveMessage(fd, n+segment, 0, kernel.MsgPeek|kernel.MsgDontWait)
	if err != nil {
		return nil, fmt.Errorf("send queue of %d bytes: %w", n, err)
	}
	if len(m.Data) < n {
		return nil, fmt.Errorf("send queue of %d bytes: only %d could be read", n, len(m.Data))
	}
	return m.Data[len(m.Data)-n:], nil
}

// peekStream reads what waits to be received on a TCP socket.
func peekStream(fd int) ([]byte, error) {
	n, err := kernel.SocketQueue(fd, kernel.SIOCInQ)
	if err != nil {
		return nil, fmt.Errorf("SIOCINQ: %w", err)
	}
	if n == 0 {
		return nil, nil
	}
	restore, err := peekFrom(fd, -1)
	if err != nil {
		return nil, err
	}
	m, err := kernel.ReceiveMessage(fd, n, 0, kernel.MsgPeek|kernel.MsgDontWait)
	if err != nil {
		return nil, fmt.Errorf("receive queue of %d bytes: %w", n, err)
	}
	if len(m.Data) != n {
		return nil, fmt.Errorf("receive queue of %d bytes: %d could be read", n, len(m.Data))
	}
	return m.Data, restore()
}

// peekFrom sets where MSG_PEEK begins, -1 for the beginning of the queue, and returns how to put it back.
func peekFrom(fd, offset int) (restore func() error, err error) {
	was, err := kernel.SocketInt(fd, kernel.SolSocket, kernel.SoPeekOff)
	if unknownOption(err) || err == nil && was == offset {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, fmt.Errorf("SO_PEEK_OFF: %w", err)
	}
	set := func(v int) error {
		err := kernel.SetSocketInt(fd, kernel.SolSocket, kernel.SoPeekOff, v)
		if unknownOption(err) { // TCP has it since v6.9, but always tells a value
			return nil
		}
		return err
	}
	return func() error { return set(was) }, set(offset)
}

func decodeWindow(b []byte) image.TCPWindow {
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }
	return image.TCPWindow{SendWL1: word(0), SendWindow: word(1), MaxWindow: word(2), ReceiveWindow: word(3), ReceiveWUP: word(4)}
}

func encodeWindow(w image.TCPWindow) []byte {
	var b []byte
	for _, word := range []uint32{w.SendWL1, w.SendWindow, w.MaxWindow, w.ReceiveWindow, w.ReceiveWUP} {
		b = binary.LittleEndian.AppendUint32(b, word)
	}
	return b
}

// unchanged compares a connection with what was captured of it.
func (h *heldSocket) unchanged() error {
	info, err := readTCPInfo(h.fd)
	if err != nil {
		return fmt.Errorf("%s: %w", h.name, err)
	}
	if tcpStates[info.state] != h.tcp.State {
		return refuse.Passingf("%s: the connection changed from %s to %s while it was read; try again", h.name, h.tcp.State, tcpStates[info.state])
	}
	if h.tcp.State == image.TCPListen && info.unacked > 0 {
		return pendingConnections(h.name, int(info.unacked))
	}
	if k := h.tcp.Connection; k != nil {
		n, err := kernel.SocketQueue(h.fd, kernel.SIOCInQ)
		if err != nil {
			return fmt.Errorf("%s: SIOCINQ: %w", h.name, err)
		}
		if n != len(k.ReceiveQueue) {
			return refuse.Passingf("%s: data came in while the connection was read; try again", h.name)
		}
	}
	return nil
}
