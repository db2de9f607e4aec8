package object

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/parallel"
)

// rebuildTCP makes a socket. Connections are made before, by createConnections.
func rebuildTCP(_ *Rebuild, f *image.OpenFile) (int, error) { return newTCP(f.TCP) }

func connected(f *image.OpenFile) bool { return f.TCP != nil && f.TCP.Connection != nil }

// createConnections makes all connections when the first is wanted. They stay in repair mode, mute, until ReleaseNetwork.
//
// Listening sockets are made first: connections share their ports by force, but a listening socket cannot come to a port with
// connections unless all of them have SO_REUSEADDR.
func (r *Rebuild) createConnections() error {
	if r.created {
		return nil
	}
	r.created = true
	var connections []*image.OpenFile
	for i := range r.State.Files {
		f := &r.State.Files[i]
		_, made := r.fds[f.ID]
		switch {
		case made:
		case connected(f):
			connections = append(connections, f)
		case f.TCP != nil && f.TCP.State == image.TCPListen:
			if err := r.createTCP(f); err != nil {
				return err
			}
		}
	}
	return parallel.Urgently(connections, r.createTCP)
}

// createTCP makes a socket, for several callers at the same time.
func (r *Rebuild) createTCP(f *image.OpenFile) error {
	fd, err := newTCP(f.TCP)
	if err != nil {
		return fmt.Errorf("%s: %w", r.name(f), err)
	}
	r.filling.Lock()
	defer r.filling.Unlock()
	r.put(f.ID, fd)
	return nil
}

func newTCP(s *image.TCPSocket) (int, error) {
	family := kernel.AFInet
	if s.V6 {
		family = kernel.AFInet6
	}
	fd, err := kernel.Socket(family, kernel.SockStream, kernel.IPProtoTCP)
	if err != nil {
		return -1, fmt.Errorf("TCP socket: %w", err)
	}
	if err := buildTCP(fd, s); err != nil {
		kernel.Close(fd)
		return -1, err
	}
	return fd, nil
}

func buildTCP(fd int, s *image.TCPSocket) error {
	if err := kernel.ChangeOwner(fd, s.Owner.UID, s.Owner.GID); err != nil {
		return fmt.Errorf("owner of the socket: %w", err)
	}
	if err := setOptions(fd, s.Options, beforeLife); err != nil {
		return err
	}
	switch {
	case s.State == image.TCPListen:
		return buildListener(fd, s)
	case s.Connection != nil:
		return buildConnection(fd, s)
	case s.Ended != nil:
		return buildEnded(fd, s)
	}
	if err := setReuse(fd, s.Options); err != nil {
		return err
	}
	if s.Local.Port() != 0 {
		if err := bindInet(fd, s.Local, s.V6, kernel.IPProtoTCP); err != nil {
			return err
		}
	}
	if err := restoreBuffers(fd, s.Options); err != nil {
		return err
	}
	return setOptions(fd, s.Options, afterBirth)
}

func setReuse(fd int, options []image.SocketOption) error {
	if err := kernel.SetSocketInt(fd, kernel.SolSocket, kernel.SoReuseAddr, option(options, "SO_REUSEADDR")); err != nil {
		return fmt.Errorf("SO_REUSEADDR: %w", err)
	}
	return nil
}

func buildListener(fd int, s *image.TCPSocket) error {
	if err := setReuse(fd, s.Options); err != nil {
		return err
	}
	if err := bindInet(fd, s.Local, s.V6, kernel.IPProtoTCP); err != nil {
		return err
	}
	// Sizes and options come first: connections inherit them from the moment of listen(2).
	if err := restoreBuffers(fd, s.Options); err != nil {
		return err
	}
	if err := setOptions(fd, s.Options, afterBirth); err != nil {
		return err
	}
	return listenInet(fd, s)
}

func listenInet(fd int, s *image.TCPSocket) error {
	switch err := kernel.Listen(fd, s.Backlog); {
	case errors.Is(err, kernel.EADDRINUSE):
		return conflictf("address %s is taken%s", s.Local, holderOfPort(s.Local.Port(), kernel.IPProtoTCP))
	case err != nil:
		return fmt.Errorf("listen on %s: %w", s.Local, err)
	}
	return nil
}

// buildConnection makes an established connection out of nothing. What came after the connection was established (data never
// sent, both FINs) is done by enliven.
func buildConnection(fd int, s *image.TCPSocket) error {
	k := s.Connection
	// Repair mode also lets the socket share its port with the listening one. Setting SO_REUSEADDR now would end that.
	if err := kernel.SetSocketInt(fd, kernel.SolTCP, kernel.TCPRepair, kernel.TCPRepairOn); err != nil {
		return fmt.Errorf("TCP_REPAIR: %w", err)
	}
	if err := widenBuffers(fd, len(k.SendQueue), len(k.ReceiveQueue)); err != nil {
		return err
	}
	if err := bindInet(fd, s.Local, s.V6, kernel.IPProtoTCP); err != nil {
		return err
	}
	if err := setQueueSeq(fd, kernel.TCPReceiveQueue, k.ReceiveSeq-uint32(len(k.ReceiveQueue))); err != nil {
		return err
	}
	if err := setQueueSeq(fd, kernel.TCPSendQueue, k.SendSeq-uint32(len(k.SendQueue))); err != nil {
		return err
	}
	if err := connectInet(fd, s); err != nil {
		return err
	}
	if err := setNegotiated(fd, k); err != nil {
		return err
	}
	if err := fillQueue(fd, kernel.TCPReceiveQueue, k.ReceiveQueue); err != nil {
		return err
	}
	if err := fillQueue(fd, kernel.TCPSendQueue, k.SendQueue[:len(k.SendQueue)-k.Unsent]); err != nil {
		return err
	}
	// With no queue selected the connection takes part in life again, if data comes before enliven is called.
	if err := selectQueue(fd, kernel.TCPNoQueue); err != nil {
		return err
	}
	if err := setWindow(fd, k); err != nil {
		return err
	}
	return setOptions(fd, s.Options, afterBirth)
}

func selectQueue(fd, queue int) error {
	if err := kernel.SetSocketInt(fd, kernel.SolTCP, kernel.TCPRepairQueue, queue); err != nil {
		return fmt.Errorf("TCP_REPAIR_QUEUE %d: %w", queue, err)
	}
	return nil
}

func setQueueSeq(fd, queue int, seq uint32) error {
	if err := selectQueue(fd, queue); err != nil {
		return err
	}
	if err := kernel.SetSocketInt(fd, kernel.SolTCP, kernel.TCPQueueSeq, int(int32(seq))); err != nil {
		return fmt.Errorf("TCP_QUEUE_SEQ of queue %d: %w", queue, err)
	}
	return nil
}

// connectInet connects a socket in repair mode: the kernel finds a route and enters the connection into its tables.
func connectInet(fd int, s *image.TCPSocket) error {
	addr, err := encodeAddr(s.Remote, s.V6)
	if err != nil {
		return err
	}
	switch err = kernel.ConnectTo(fd, addr); {
	case errors.Is(err, kernel.EADDRNOTAVAIL):
		return conflictf("the connection from %s to %s exists already%s", s.Local, s.Remote, holderOfPort(s.Local.Port(), kernel.IPProtoTCP))
	case errors.Is(err, kernel.ENETUNREACH), errors.Is(err, kernel.EHOSTUNREACH):
		return conflictf("there is no route from %s to %s; bring the network up first", s.Local.Addr(), s.Remote.Addr())
	case err != nil:
		return fmt.Errorf("connect %s to %s: %w", s.Local, s.Remote, err)
	}
	return nil
}

// Options of the handshake in struct tcp_repair_opt, include/net/tcp.h.
const (
	tcpOptionMSS       = 2
	tcpOptionWindow    = 3
	tcpOptionSACK      = 4
	tcpOptionTimestamp = 8
)

// setNegotiated sets what both sides agreed upon in the handshake.
func setNegotiated(fd int, k *image.TCPConnection) error {
	var b []byte
	add := func(code, value uint32) {
		b = binary.LittleEndian.AppendUint32(b, code)
		b = binary.LittleEndian.AppendUint32(b, value)
	}
	add(tcpOptionMSS, uint32(k.MSS))
	if k.WindowScale {
		add(tcpOptionWindow, uint32(k.SendScale)|uint32(k.ReceiveScale)<<16)
	}
	if k.SACK {
		add(tcpOptionSACK, 0)
	}
	if k.Timestamps {
		add(tcpOptionTimestamp, 0)
	}
	if err := kernel.SetSocketOption(fd, kernel.SolTCP, kernel.TCPRepairOptions, b); err != nil {
		return fmt.Errorf("TCP_REPAIR_OPTIONS: %w", err)
	}
	if !k.Timestamps {
		return nil
	}
	// Since v6.7 the lowest bit says that the clock counts µs. In milliseconds it is part of the value, which must not
	// go backwards: PAWS, RFC 7323.
	stamp := k.Timestamp
	if !k.Microseconds {
		stamp = (stamp + 1) &^ 1
	}
	if err := kernel.SetSocketInt(fd, kernel.SolTCP, kernel.TCPTimestamp, int(int32(stamp))); err != nil {
		return fmt.Errorf("TCP_TIMESTAMP: %w", err)
	}
	return nil
}

// fillQueue puts bytes into a queue as if they had been received, or sent and not acknowledged.
func fillQueue(fd, queue int, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	if err := selectQueue(fd, queue); err != nil {
		return err
	}
	if err := writeAll(fd, data); err != nil {
		return fmt.Errorf("refill queue %d with %d bytes: %w", queue, len(data), err)
	}
	return nil
}

// writeAll sends everything without waiting. The pieces are small enough for the kernel to find memory for each.
func writeAll(fd int, data []byte) error {
	const piece = 16 << 10
	for len(data) > 0 {
		n, err := kernel.SendTo(fd, data[:min(len(data), piece)], kernel.MsgDontWait, nil)
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// setWindow sets what each side may send. Without FINs, which have no place in the queues, the windows reach as far as before.
func setWindow(fd int, k *image.TCPConnection) error {
	w := k.Window
	if after(w.ReceiveWUP, k.ReceiveSeq) {
		w.ReceiveWUP = k.ReceiveSeq
	}
	if after(w.SendWL1, k.ReceiveSeq+w.ReceiveWindow) {
		w.SendWL1 = k.ReceiveSeq
	}
	if err := kernel.SetSocketOption(fd, kernel.SolTCP, kernel.TCPRepairWindow, encodeWindow(w)); err != nil {
		return fmt.Errorf("TCP_REPAIR_WINDOW: %w", err)
	}
	return nil
}

// after compares sequence numbers, which wrap around.
func after(a, b uint32) bool { return int32(a-b) > 0 }

// ReleaseNetwork lets the rebuilt connections take part in the network. It is called last, after the network was unlocked
// and before the processes run. Each connection sends a window probe, by whose answer it learns what its peer has received meanwhile,
// unless its peer has closed its side: that one may be gone, and would answer with a reset before the process has read the end of the stream.
func (r *Rebuild) ReleaseNetwork() error {
	var failed []error
	for i := range r.State.Files {
		f := &r.State.Files[i]
		if !connected(f) {
			continue
		}
		if err := enliven(r.fds[f.ID], f.TCP); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", r.name(f), err))
		}
	}
	return errors.Join(failed...)
}

func enliven(fd int, s *image.TCPSocket) error {
	k := s.Connection
	if s.State == image.TCPFinWait2 {
		if err := endOurs(fd, s); err != nil {
			return err
		}
	}
	off := kernel.TCPRepairOff
	if k.FinReceived {
		off = kernel.TCPRepairOffSilent
	}
	if err := kernel.SetSocketInt(fd, kernel.SolTCP, kernel.TCPRepair, off); err != nil {
		return fmt.Errorf("end of TCP_REPAIR: %w", err)
	}
	if err := setReuse(fd, s.Options); err != nil {
		return err
	}
	if err := writeAll(fd, k.SendQueue[len(k.SendQueue)-k.Unsent:]); err != nil {
		return fmt.Errorf("send what waited to be sent, %d bytes: %w", k.Unsent, err)
	}
	if err := restoreBuffers(fd, s.Options); err != nil {
		return err
	}
	if clamp := option(s.Options, "TCP_WINDOW_CLAMP"); clamp != 0 {
		if err := kernel.SetSocketInt(fd, kernel.SolTCP, kernel.TCPWindowClamp, clamp); err != nil {
			return fmt.Errorf("TCP_WINDOW_CLAMP: %w", err)
		}
	}
	return halfClose(fd, s)
}

// endOurs closes our side of a connection whose peer knows of it: in repair mode the FIN is not sent, and the acknowledgement
// comes from kup.
func endOurs(fd int, s *image.TCPSocket) error {
	if err := selectQueue(fd, kernel.TCPSendQueue); err != nil {
		return err
	}
	if err := kernel.Shutdown(fd, kernel.ShutWrite); err != nil {
		return fmt.Errorf("shutdown: %w", err)
	}
	return receiveSegment(fd, s, tcpFlagACK, s.Connection.SendSeq+1)
}

// halfClose repeats the ends of both directions in the order in which they came.
func halfClose(fd int, s *image.TCPSocket) error {
	k := s.Connection
	ours := func() error {
		if !k.ShutWrite || s.State == image.TCPFinWait2 {
			return nil
		}
		if err := kernel.Shutdown(fd, kernel.ShutWrite); err != nil {
			return fmt.Errorf("shutdown: %w", err)
		}
		return nil
	}
	theirs := func() error {
		if !k.FinReceived {
			return nil
		}
		return receiveFIN(fd, s)
	}
	if s.State == image.TCPClosing {
		return errors.Join(ours(), theirs())
	}
	return errors.Join(theirs(), ours())
}
