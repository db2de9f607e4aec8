package object

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/refuse"
)

func captureUnix(c *Capture, d *Descriptor, f *image.OpenFile) error {
	s, err := c.readUnix(d)
	if err != nil {
		return fmt.Errorf("%s: %w", d, err)
	}
	f.Unix = s
	return nil
}

func (c *Capture) readUnix(d *Descriptor) (*image.UnixSocket, error) {
	diag, v, err := c.findUnix(d)
	if err != nil {
		return nil, err
	}
	s := &image.UnixSocket{Inode: d.Stat.Ino, Type: diag.kind, Owner: socketOwner(d), State: image.UnixUnconnected}
	s.ShutRead, s.ShutWrite = diag.shutdown&1 != 0, diag.shutdown&2 != 0
	if s.Name, err = unixName(kernel.SocketName(d.File)); err != nil {
		return nil, fmt.Errorf("getsockname: %w", err)
	}
	if s.Node, err = unixNode(d.File); err != nil {
		return nil, err
	}
	if s.Options, err = captureOptions(d.File, onUnix); err != nil {
		return nil, err
	}
	buffers, err := captureBuffers(d.File)
	if err != nil {
		return nil, err
	}
	s.Options = append(s.Options, buffers...)
	if s.PeerCred.PID, s.PeerCred.UID, s.PeerCred.GID, err = kernel.SocketUcred(d.File, kernel.SolSocket, kernel.SoPeerCred); err != nil {
		return nil, fmt.Errorf("SO_PEERCRED: %w", err)
	}
	if diag.state == kernel.TCPStateListen {
		s.State, s.Backlog = image.UnixListening, diag.backlog
		return s, nil
	}
	if err := readUnixPeer(d, s, diag.peer, v); err != nil {
		return nil, err
	}
	s.Queue, err = peekMessages(d, s)
	return s, err
}

// readUnixPeer finds out what the socket is connected to.
func readUnixPeer(d *Descriptor, s *image.UnixSocket, peer uint64, v *unixView) error {
	name, err := unixName(kernel.PeerName(d.File))
	switch {
	case errors.Is(err, kernel.ENOTCONN):
		return nil
	case err != nil:
		return fmt.Errorf("getpeername: %w", err)
	case v.inTree[peer] != nil:
		s.Peer, s.State = peer, image.UnixConnected
		return nil
	case s.Type == kernel.SockDgram && peer != 0:
		s.PeerName, s.State = name, image.UnixConnected
		if len(name) == 0 {
			return refusePeer(d, peer)
		}
		return nil
	case peer != 0:
		return refusePeer(d, peer)
	}
	s.State, s.PeerName = image.UnixOrphaned, name
	events, err := kernel.PollNow(d.File, 0)
	s.Reset = events&kernel.PollErr != 0
	return err
}

// unixName cuts the address out of a struct sockaddr_un.
func unixName(addr []byte, err error) ([]byte, error) {
	if err != nil || len(addr) <= 2 {
		return nil, err
	}
	name := addr[2:]
	if name[0] != 0 {
		name, _, _ = bytes.Cut(name, []byte{0}) // a path ends with a zero byte, which may or may not be counted
	}
	return bytes.Clone(name), nil
}

// encodeUnix makes a struct sockaddr_un.
func encodeUnix(name []byte) []byte {
	addr := append(binary.LittleEndian.AppendUint16(nil, kernel.AFUnix), name...)
	if len(name) > 0 && name[0] != 0 {
		addr = append(addr, 0)
	}
	return addr
}

// unixNode finds the file that a socket was bound to, which may be elsewhere by now.
func unixNode(fd int) (*image.UnixNode, error) {
	node, err := kernel.OpenSocketFile(fd)
	if errors.Is(err, kernel.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("SIOCUNIXFILE: %w", err)
	}
	defer kernel.Close(node)
	path, err := kernel.ReadLink(fmt.Sprintf("/proc/self/fd/%d", node))
	if err != nil {
		return nil, err
	}
	is, err := kernel.StatFD(node)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(path, " (deleted)") {
		return nil, nil
	}
	if there, err := os.Lstat(path); err != nil || there.Mode()&os.ModeSocket == 0 {
		return nil, nil
	}
	return &image.UnixNode{Path: path, Mode: is.Mode &^ kernel.ModeType, UID: is.Uid, GID: is.Gid}, nil
}

// peekMessages reads what waits to be received, and leaves it there.
func peekMessages(d *Descriptor, s *image.UnixSocket) ([]image.UnixMessage, error) {
	if events, err := kernel.PollNow(d.File, kernel.PollIn); err != nil || events&kernel.PollIn == 0 {
		return nil, err
	}
	restore, err := peekFrom(d.File, 0)
	if err != nil {
		return nil, err
	}
	// A buffer that holds credentials and nothing else: whatever does not fit sets MSG_CTRUNC.
	control := 0
	if option(s.Options, "SO_PASSCRED") != 0 {
		control = kernel.UcredSpace
	}
	// A datagram or record is at most as long as its sender's buffer: net.core.wmem_max, unless a privileged sender chose more.
	size := 1 << 20
	if s.Type != kernel.SockDgram {
		if size, err = kernel.SocketQueue(d.File, kernel.SIOCInQ); err != nil {
			return nil, fmt.Errorf("SIOCINQ: %w", err)
		}
	}
	var queue []image.UnixMessage
	for {
		m, err := kernel.ReceiveMessage(d.File, size+1, control, kernel.MsgPeek|kernel.MsgDontWait|kernel.MsgTrunc)
		if errors.Is(err, kernel.EAGAIN) || errors.Is(err, kernel.ECONNRESET) || errors.Is(err, kernel.EINVAL) || errors.Is(err, kernel.ENOTCONN) {
			break // nothing more, or never anything
		}
		if err != nil {
			return nil, fmt.Errorf("receive queue: %w", err)
		}
		if len(m.Data) == 0 && (s.Type != kernel.SockDgram || s.ShutRead) {
			break // end of file
		}
		if m.Flags&kernel.MsgTrunc != 0 {
			return nil, refuse.Errorf("a message of more than %d bytes waits to be read; let the application read it and try again", size)
		}
		if m.Flags&kernel.MsgCTrunc != 0 || carriesCredentials(m.Control) {
			return nil, refuse.Passingf("descriptors or credentials are under way to it in a message (SCM_RIGHTS, SCM_CREDENTIALS), which kup cannot checkpoint; let the application read it and try again")
		}
		message := image.UnixMessage{Data: m.Data}
		if s.Type == kernel.SockDgram {
			if message.From, err = unixName(m.From, nil); err != nil {
				return nil, err
			}
		}
		queue = append(queue, message)
	}
	return queue, restore()
}

// carriesCredentials tells whether a control message names a process; messages of senders without have pid 0.
func carriesCredentials(control []byte) bool {
	const header = 16 // struct cmsghdr
	return len(control) >= header+4 && binary.LittleEndian.Uint32(control[header:]) != 0
}

// settleUnix refuses datagrams whose senders cannot be made again.
func settleUnix(c *Capture) error {
	named := map[string]bool{"": true}
	for _, one := range c.captured {
		if s := one.file.Unix; s != nil && s.Type == kernel.SockDgram {
			named[string(s.Name)] = true
		}
	}
	for _, one := range c.captured {
		if one.file.Unix == nil {
			continue
		}
		for _, m := range one.file.Unix.Queue {
			if !named[string(m.From)] {
				return refuse.Passingf("%s: a datagram from %q, which is not checkpointed, waits to be read; let the application read it and try again", one.d, m.From)
			}
		}
	}
	return nil
}
