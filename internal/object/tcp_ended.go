package object

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// buildEnded makes a socket whose connection has ended: it is connected for a moment to a socket of our own on the same
// address, which sends what the application has not read and then ends the connection in the same way.
func buildEnded(fd int, s *image.TCPSocket) error {
	if err := widenBuffers(fd, 0, len(s.Ended.Unread)); err != nil {
		return err
	}
	peer, err := connectToOurselves(fd, s)
	if err != nil {
		return fmt.Errorf("connection that has ended: %w", err)
	}
	err = endConnection(fd, peer, s.Ended)
	kernel.Close(peer)
	if err == nil {
		err = awaitState(fd, kernel.TCPStateClose)
	}
	if err != nil {
		return fmt.Errorf("connection that has ended: %w", err)
	}
	if err := restoreBuffers(fd, s.Options); err != nil {
		return err
	}
	if err := setReuse(fd, s.Options); err != nil {
		return err
	}
	return setOptions(fd, s.Options, afterBirth)
}

// connectToOurselves connects a socket that gets its old address and returns the other end.
func connectToOurselves(fd int, s *image.TCPSocket) (peer int, err error) {
	family := kernel.AFInet
	if s.V6 {
		family = kernel.AFInet6
	}
	listener, err := kernel.Socket(family, kernel.SockStream, kernel.IPProtoTCP)
	if err != nil {
		return -1, err
	}
	defer kernel.Close(listener)
	if err := bindInet(listener, netip.AddrPortFrom(s.Local.Addr(), 0), s.V6, kernel.IPProtoTCP); err != nil {
		return -1, err
	}
	if err := kernel.Listen(listener, 1); err != nil {
		return -1, err
	}
	target, err := kernel.SocketName(listener)
	if err != nil {
		return -1, err
	}
	// Repair mode at bind(2) lets the socket share its port, as with connections that live.
	if err := kernel.SetSocketInt(fd, kernel.SolTCP, kernel.TCPRepair, kernel.TCPRepairOn); err != nil {
		return -1, fmt.Errorf("TCP_REPAIR: %w", err)
	}
	if err := bindInet(fd, s.Local, s.V6, kernel.IPProtoTCP); err != nil {
		return -1, err
	}
	if err := kernel.SetSocketInt(fd, kernel.SolTCP, kernel.TCPRepair, kernel.TCPRepairOffSilent); err != nil {
		return -1, fmt.Errorf("end of TCP_REPAIR: %w", err)
	}
	if err := kernel.ConnectTo(fd, target); err != nil {
		return -1, err
	}
	return kernel.Accept(listener)
}

func endConnection(fd, peer int, end *image.TCPEnd) error {
	for rest := end.Unread; len(rest) > 0; {
		n, err := kernel.SendTo(peer, rest, kernel.MsgDontWait, nil)
		if errors.Is(err, kernel.EAGAIN) {
			time.Sleep(time.Millisecond) // until the kernel has moved some of it
			continue
		}
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	for waiting := -1; waiting < len(end.Unread); {
		var err error
		if waiting, err = kernel.SocketQueue(fd, kernel.SIOCInQ); err != nil {
			return err
		}
	}
	if end.Reset {
		linger := []byte{1, 0, 0, 0, 0, 0, 0, 0} // struct linger: closing resets the connection, socket(7)
		return kernel.SetSocketOption(peer, kernel.SolSocket, kernel.SoLinger, linger)
	}
	if err := kernel.Shutdown(peer, kernel.ShutWrite); err != nil {
		return err
	}
	if err := awaitState(fd, kernel.TCPStateCloseWait); err != nil {
		return err
	}
	return kernel.Shutdown(fd, kernel.ShutWrite)
}

// awaitState waits until packets that are on the way inside this machine have brought a socket into a state.
func awaitState(fd int, state uint8) error {
	for range 500 {
		info, err := readTCPInfo(fd)
		if err != nil {
			return err
		}
		if info.state == state {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("the socket did not come into TCP state %d; does a firewall drop packets on the loopback interface?", state)
}
