package object

import (
	"errors"
	"fmt"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// orphan makes sockets whose peer has closed its end, with what that had sent before.
func (b *unixBuilder) orphan(s *image.UnixSocket) error {
	if s.State != image.UnixOrphaned {
		return nil
	}
	if s.Type == kernel.SockDgram && len(s.Name) > 0 {
		return nil
	}
	var peer int
	var err error
	if len(s.Name) > 0 {
		if peer, err = kernel.Socket(kernel.AFUnix, s.Type, 0); err != nil {
			return err
		}
		b.fds[s.Inode], err = b.connectThrough(peer, s, s.PeerCred, s.PeerCred)
	} else {
		b.fds[s.Inode], peer, err = pairAs(s.Type, s.PeerCred)
	}
	if err != nil {
		return err
	}
	defer kernel.Close(peer)
	if err := sendMessages(peer, nil, s.Queue); err != nil {
		return err
	}
	if s.Reset {
		// Closing with something unread makes the error: net/unix/af_unix.c, unix_release_sock.
		if _, err := kernel.SendTo(b.fds[s.Inode], []byte{0}, kernel.MsgDontWait, nil); err != nil {
			return fmt.Errorf("message to a peer that is gone: %w", err)
		}
	}
	return nil
}

// remaining makes all others: unconnected ones, and datagram sockets with names.
func (b *unixBuilder) remaining(s *image.UnixSocket) error {
	if b.made(s) {
		return nil
	}
	_, err := b.bound(s)
	return err
}

// aim connects datagram sockets to the addresses they send to.
func (b *unixBuilder) aim(s *image.UnixSocket) error {
	if s.Type != kernel.SockDgram || s.State == image.UnixUnconnected {
		return nil
	}
	fd := b.fds[s.Inode]
	if _, err := kernel.PeerName(fd); err == nil {
		return nil
	}
	name := s.PeerName
	if peer := b.byInode[s.Peer]; peer != nil {
		if name = peer.Name; peer.Node != nil {
			name = []byte(peer.Node.Path)
		}
		if len(name) == 0 {
			return fmt.Errorf("datagram socket connected one way to a socket without a name")
		}
	}
	if len(name) > 0 {
		err := connectAs(fd, encodeUnix(name), s.PeerCred)
		if err == nil || !errors.Is(err, kernel.ECONNREFUSED) && !errors.Is(err, kernel.ENOENT) {
			return err
		}
	}
	// Nobody is there (any more). The application learns of it when it sends, as it would have from a peer that was restarted.
	return connectNowhere(fd)
}

// connectNowhere connects a datagram socket to one that is closed at once.
func connectNowhere(fd int) error {
	gone, err := kernel.Socket(kernel.AFUnix, kernel.SockDgram, 0)
	if err != nil {
		return err
	}
	defer kernel.Close(gone)
	if err := kernel.Bind(gone, encodeUnix(nil)); err != nil { // a name is chosen: unix(7), autobind
		return err
	}
	addr, err := kernel.SocketName(gone)
	if err != nil {
		return err
	}
	return kernel.ConnectTo(fd, addr)
}

// fill sends again what waited to be read.
func (b *unixBuilder) fill(s *image.UnixSocket) error {
	if len(s.Queue) == 0 || s.State == image.UnixOrphaned && s.Type != kernel.SockDgram {
		return nil
	}
	peer := b.byInode[s.Peer]
	if s.Type != kernel.SockDgram {
		if peer == nil {
			return fmt.Errorf("%d messages wait to be read, but there is nobody who could have sent them", len(s.Queue))
		}
		return sendMessages(b.fds[s.Peer], nil, s.Queue)
	}
	if peer != nil && peer.Peer == s.Inode && len(peer.Name) == 0 {
		return sendMessages(b.fds[s.Peer], nil, s.Queue)
	}
	if len(s.Name) == 0 {
		return nil // an orphan of socketpair(2): orphan has sent them
	}
	for _, m := range s.Queue {
		sender, err := b.sender(m)
		if err != nil {
			return err
		}
		addr := encodeUnix(s.Name)
		if s.Node != nil {
			addr = encodeUnix([]byte(s.Node.Path))
		}
		if err := sendMessages(sender, addr, []image.UnixMessage{m}); err != nil {
			return err
		}
	}
	return nil
}

// sender is the socket of the image that has a datagram's sender address, or a fresh one for a sender without.
func (b *unixBuilder) sender(m image.UnixMessage) (int, error) {
	for _, f := range b.files {
		if s := f.Unix; len(m.From) > 0 && s.Type == kernel.SockDgram && string(s.Name) == string(m.From) {
			return b.fds[s.Inode], nil
		}
	}
	fd, err := kernel.Socket(kernel.AFUnix, kernel.SockDgram, 0)
	if err != nil {
		return -1, err
	}
	b.temporary = append(b.temporary, fd)
	return fd, nil
}

// sendMessages sends without waiting, with room for everything; the buffer's size is set again by finish.
func sendMessages(fd int, to []byte, queue []image.UnixMessage) error {
	total := 0
	for _, m := range queue {
		total += len(m.Data) + 1024 // bookkeeping
	}
	if total == 0 {
		return nil
	}
	if err := kernel.SetSocketInt(fd, kernel.SolSocket, kernel.SoSndBufForce, 2*total+1<<18); err != nil {
		return fmt.Errorf("SO_SNDBUFFORCE: %w", err)
	}
	for _, m := range queue {
		for rest := m.Data; ; {
			n, err := kernel.SendTo(fd, rest, kernel.MsgDontWait, to)
			if err != nil {
				return fmt.Errorf("refill the receive queue with %d bytes: %w", len(m.Data), err)
			}
			if rest = rest[n:]; len(rest) == 0 {
				break
			}
		}
	}
	return nil
}

// shut repeats shutdown(2). What each side did shows on both.
func (b *unixBuilder) shut(s *image.UnixSocket) error {
	if s.State == image.UnixOrphaned && s.Type != kernel.SockDgram {
		return nil
	}
	fd := b.fds[s.Inode]
	for _, half := range []struct {
		shut bool
		how  int
	}{{s.ShutRead, kernel.ShutRead}, {s.ShutWrite, kernel.ShutWrite}} {
		if !half.shut {
			continue
		}
		if err := kernel.Shutdown(fd, half.how); err != nil {
			return fmt.Errorf("shutdown: %w", err)
		}
	}
	return nil
}

// finish sets what would have influenced, or was needed for, all that came before.
func (b *unixBuilder) finish(s *image.UnixSocket) error {
	fd := b.fds[s.Inode]
	if err := kernel.ChangeOwner(fd, s.Owner.UID, s.Owner.GID); err != nil {
		return fmt.Errorf("owner of the socket: %w", err)
	}
	if err := setReuse(fd, s.Options); err != nil {
		return err
	}
	if err := restoreBuffers(fd, s.Options); err != nil {
		return err
	}
	if err := setOptions(fd, s.Options, afterBirth); err != nil {
		return err
	}
	for _, name := range []string{"SO_PASSCRED", "SO_PASSPIDFD", "SO_PEEK_OFF"} {
		o := optionByName[name]
		for _, want := range s.Options {
			if want.Name != name {
				continue
			}
			if err := o.set(fd, want, nil); err != nil {
				return fmt.Errorf("setsockopt %s: %w", name, err)
			}
		}
	}
	return nil
}

// identity is who made a socket what it is.
func identity(c image.UnixCred) kernel.Identity {
	return kernel.Identity{PID: c.PID, UID: c.UID, GID: c.GID}
}

// known reports whether the socket has recorded anybody. Otherwise (an unconnected datagram socket) it does not matter who calls.
func known(c image.UnixCred) bool { return c.PID > 0 && c.UID != ^uint32(0) }

func pairAs(kind int, c image.UnixCred) (int, int, error) {
	if !known(c) {
		return kernel.SocketPair(kind)
	}
	return kernel.SocketPairAs(kind, identity(c))
}

func listenAs(fd, backlog int, c image.UnixCred) error {
	var err error
	if known(c) {
		err = kernel.ListenAs(fd, backlog, identity(c))
	} else {
		err = kernel.Listen(fd, backlog)
	}
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return nil
}

func connectAs(fd int, addr []byte, c image.UnixCred) error {
	if !known(c) {
		return kernel.ConnectTo(fd, addr)
	}
	return kernel.ConnectAs(fd, addr, identity(c))
}
