package object

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// rebuildUnix makes all unix sockets of the image at the first call: they need each other.
func rebuildUnix(r *Rebuild, f *image.OpenFile) (int, error) {
	if _, made := r.fds[f.ID]; !made {
		b := &unixBuilder{rebuild: r, fds: map[uint64]int{}, byInode: map[uint64]*image.UnixSocket{}}
		if err := b.build(); err != nil {
			return -1, errors.Join(err, b.closeTemporary())
		}
		if err := b.closeTemporary(); err != nil {
			return -1, err
		}
	}
	return r.fds[f.ID], nil
}

// unixBuilder makes the unix sockets of an image in several passes.
type unixBuilder struct {
	rebuild   *Rebuild
	files     []*image.OpenFile
	byInode   map[uint64]*image.UnixSocket
	fds       map[uint64]int // by inode
	temporary []int          // descriptors that only building needs, in the order in which they are closed
	stale     []string       // nodes that exist only because somebody had to be bound
}

func (b *unixBuilder) build() error {
	for i := range b.rebuild.State.Files {
		if f := &b.rebuild.State.Files[i]; f.Unix != nil {
			b.files = append(b.files, f)
			b.byInode[f.Unix.Inode] = f.Unix
		}
	}
	for _, pass := range []func(s *image.UnixSocket) error{
		b.listen, b.connect, b.orphan, b.remaining, b.aim, b.fill, b.shut, b.finish,
	} {
		for _, f := range b.files {
			if err := pass(f.Unix); err != nil {
				return fmt.Errorf("%s: %w", b.rebuild.name(f), err)
			}
			if fd, made := b.fds[f.Unix.Inode]; made {
				b.rebuild.put(f.ID, fd)
			}
		}
	}
	return nil
}

func (b *unixBuilder) closeTemporary() error {
	for _, fd := range b.temporary {
		kernel.Close(fd)
	}
	var failed []error
	for _, path := range b.stale {
		failed = append(failed, os.Remove(path))
	}
	return errors.Join(failed...)
}

func (b *unixBuilder) made(s *image.UnixSocket) bool {
	_, made := b.fds[s.Inode]
	return made
}

// listen makes the listening sockets.
func (b *unixBuilder) listen(s *image.UnixSocket) error {
	if s.State != image.UnixListening {
		return nil
	}
	fd, err := b.bound(s)
	if err != nil {
		return err
	}
	return listenAs(fd, s.Backlog, s.PeerCred)
}

// bound makes a socket and gives it its name.
func (b *unixBuilder) bound(s *image.UnixSocket) (int, error) {
	fd, err := kernel.Socket(kernel.AFUnix, s.Type, 0)
	if err != nil {
		return -1, fmt.Errorf("unix socket: %w", err)
	}
	b.fds[s.Inode] = fd
	if len(s.Name) == 0 {
		return fd, nil
	}
	return fd, bindUnix(fd, s)
}

// bindUnix gives a socket its name. A node that is left of the socket that was checkpointed gives way to the new one.
func bindUnix(fd int, s *image.UnixSocket) error {
	name := string(s.Name)
	if s.Name[0] == 0 {
		err := kernel.Bind(fd, encodeUnix(s.Name))
		if errors.Is(err, kernel.EADDRINUSE) {
			return conflictf("the abstract unix address %q is taken", name)
		}
		return err
	}
	if s.Node == nil {
		// The node was removed, or another socket has its place; the name remains.
		if _, err := os.Lstat(name); err == nil {
			return conflictf("the unix socket %s, whose node was removed, cannot get its name again: something else is there", name)
		}
		if err := kernel.Bind(fd, encodeUnix(s.Name)); err != nil {
			return fmt.Errorf("bind to %s: %w", name, err)
		}
		return os.Remove(name)
	}
	if err := removeStale(s.Node.Path, s.Type); err != nil {
		return err
	}
	if err := bindIn(fd, s); err != nil {
		return err
	}
	if err := os.Chmod(s.Node.Path, os.FileMode(s.Node.Mode&0o777)); err != nil {
		return err
	}
	return os.Lchown(s.Node.Path, int(s.Node.UID), int(s.Node.GID))
}

// bindIn binds to a path that may be relative to the directory in which the application was then.
func bindIn(fd int, s *image.UnixSocket) error {
	name := string(s.Name)
	if !filepath.IsAbs(name) {
		base, fits := strings.CutSuffix(s.Node.Path, "/"+filepath.Clean(name))
		if !fits {
			return conflictf("the unix socket %s is bound to the relative path %q, which does not lead there", s.Node.Path, name)
		}
		here, err := os.Getwd()
		if err != nil {
			return err
		}
		if err := os.Chdir(base + "/"); err != nil {
			return err
		}
		defer os.Chdir(here) // it was there a moment ago
	}
	// Nobody may connect before owner and mode are right.
	mask := kernel.SetUmask(0o777)
	defer kernel.SetUmask(mask)
	if err := kernel.Bind(fd, encodeUnix(s.Name)); err != nil {
		return fmt.Errorf("bind to %s: %w", s.Node.Path, err)
	}
	return nil
}

// removeStale removes a socket's node if nobody is behind it any more.
func removeStale(path string, kind int) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSocket == 0 {
		return conflictf("%s, where a unix socket shall be, is something else; move it away", path)
	}
	probe, err := kernel.Socket(kernel.AFUnix, kind, 0)
	if err != nil {
		return err
	}
	defer kernel.Close(probe)
	if err := kernel.SetFileFlags(probe, kernel.ONonblock); err != nil {
		return err
	}
	switch err := kernel.ConnectTo(probe, encodeUnix([]byte(path))); {
	case errors.Is(err, kernel.ECONNREFUSED):
		return os.Remove(path)
	case err == nil, errors.Is(err, kernel.EAGAIN), errors.Is(err, kernel.EPROTOTYPE):
		return conflictf("the unix socket %s is in use; stop who listens there", path)
	default:
		return fmt.Errorf("probe %s: %w", path, err)
	}
}

// connect makes pairs of sockets that are connected to each other.
func (b *unixBuilder) connect(s *image.UnixSocket) error {
	peer := b.byInode[s.Peer]
	if s.State != image.UnixConnected || peer == nil || peer.Peer != s.Inode || b.made(s) {
		return nil
	}
	if s.Type == kernel.SockDgram && (len(s.Name) > 0 || len(peer.Name) > 0) {
		return nil // made by remaining and aim
	}
	if len(s.Name) == 0 && len(peer.Name) == 0 {
		return b.pair(s, peer)
	}
	client, server := s, peer
	if b.accepted(s, peer) {
		client, server = peer, s
	}
	fd, err := b.bound(client)
	if err != nil {
		return err
	}
	b.fds[server.Inode], err = b.connectThrough(fd, server, server.PeerCred, client.PeerCred)
	return err
}

// accepted tells which of two connected sockets came from accept(2): that one has the name of a listening socket. The client's
// inode is older.
func (b *unixBuilder) accepted(s, peer *image.UnixSocket) bool {
	if len(s.Name) == 0 || len(peer.Name) == 0 {
		return len(s.Name) > 0
	}
	for _, f := range b.files {
		if f.Unix.State == image.UnixListening && f.Unix.Type == s.Type {
			switch string(f.Unix.Name) {
			case string(s.Name):
				return true
			case string(peer.Name):
				return false
			}
		}
	}
	return s.Inode > peer.Inode
}

func (b *unixBuilder) pair(s, peer *image.UnixSocket) error {
	one, other, err := pairAs(s.Type, s.PeerCred)
	if err != nil {
		return fmt.Errorf("socketpair: %w", err)
	}
	b.fds[s.Inode], b.fds[peer.Inode] = one, other
	return nil
}

// connectThrough connects a socket to one that gets its name from a listening socket, as accept(2) has it, and returns the
// latter.
func (b *unixBuilder) connectThrough(client int, server *image.UnixSocket, clientCred, serverCred image.UnixCred) (int, error) {
	listener := -1
	for _, f := range b.files {
		if f.Unix.State == image.UnixListening && f.Unix.Type == server.Type && string(f.Unix.Name) == string(server.Name) {
			listener = b.fds[f.Unix.Inode]
		}
	}
	if listener < 0 {
		// The application has closed it; one more time, for a moment.
		var err error
		if listener, err = b.temporaryListener(server, serverCred); err != nil {
			return -1, err
		}
	}
	addr, err := kernel.SocketName(listener)
	if err != nil {
		return -1, err
	}
	if server.Node != nil {
		addr = encodeUnix([]byte(server.Node.Path))
	}
	if err := connectAs(client, addr, clientCred); err != nil {
		return -1, fmt.Errorf("connect to %q: %w", server.Name, err)
	}
	return kernel.Accept(listener)
}

func (b *unixBuilder) temporaryListener(server *image.UnixSocket, cred image.UnixCred) (int, error) {
	fd, err := kernel.Socket(kernel.AFUnix, server.Type, 0)
	if err != nil {
		return -1, err
	}
	b.temporary = append(b.temporary, fd)
	if server.Node == nil && server.Name[0] != 0 {
		if _, err := os.Lstat(string(server.Name)); err == nil {
			return -1, conflictf("the unix socket %q cannot get its name again: something else is there", server.Name)
		}
		if err := kernel.Bind(fd, encodeUnix(server.Name)); err != nil {
			return -1, fmt.Errorf("bind to %q: %w", server.Name, err)
		}
		b.stale = append(b.stale, string(server.Name))
	} else if err := bindUnix(fd, server); err != nil {
		return -1, err
	}
	return fd, listenAs(fd, 1, cred)
}
