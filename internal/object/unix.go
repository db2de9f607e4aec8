package object

import (
	"fmt"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/refuse"
)

// unixSocket handles sockets of the family AF_UNIX: stream, datagram and seqpacket.
//
// The kernel tells who is connected to whom by sock_diag(7), module unix_diag. Connected stream and seqpacket sockets must both
// be in the tree. A datagram socket may send to one outside (a system log), which is looked for by its name at restore.
//
// What cannot be restored: connections that wait to be accepted, descriptors and credentials that are under way
// (SCM_RIGHTS, SCM_CREDENTIALS), out-of-band data. SO_PEERCRED is restored where the process IDs are free at the time.
var unixSocket = &Handler{
	Kind:    image.KindUnix,
	Claims:  func(d *Descriptor) bool { return isSocket(d, kernel.AFUnix, 0) },
	Check:   checkUnix,
	Undo:    undoSocket,
	Capture: captureUnix,
	Settle:  settleUnix,
	Rebuild: rebuildUnix,
}

// unixView is what sock_diag says of all unix sockets of the network namespace, by inode.
type unixView struct {
	sockets map[uint64]*unixDiag
	inTree  map[uint64]*Descriptor
}

// viewUnix looks once per capture.
func (c *Capture) viewUnix() (*unixView, error) {
	if c.unix != nil {
		return c.unix, nil
	}
	sockets, err := listUnix()
	if err != nil {
		return nil, err
	}
	v := &unixView{sockets: sockets, inTree: map[uint64]*Descriptor{}}
	for _, d := range c.descriptors {
		if v.sockets[d.Stat.Ino] != nil && d.fileType() == kernel.ModeSocket {
			v.inTree[d.Stat.Ino] = d
		}
	}
	c.unix = v
	return v, nil
}

// find returns what is known of a descriptor's socket. A socket that is younger than the view is asked for again.
func (c *Capture) findUnix(d *Descriptor) (*unixDiag, *unixView, error) {
	c.filling.Lock()
	defer c.filling.Unlock()
	for range 2 {
		v, err := c.viewUnix()
		if err != nil {
			return nil, nil, err
		}
		if s := v.sockets[d.Stat.Ino]; s != nil {
			return s, v, nil
		}
		c.unix = nil
	}
	return nil, nil, fmt.Errorf("%s: sock_diag does not know the socket with inode %d", d, d.Stat.Ino)
}

func checkUnix(c *Capture, d *Descriptor) error {
	if err := checkSocket(c, d); err != nil {
		return err
	}
	s, v, err := c.findUnix(d)
	if err != nil {
		return err
	}
	if s.state == kernel.TCPStateListen {
		if s.waiting > 0 {
			return pendingConnections(d.String(), s.waiting)
		}
		return nil
	}
	events, err := kernel.PollNow(d.File, kernel.PollPri)
	if err != nil {
		return fmt.Errorf("%s: poll: %w", d, err)
	}
	if events&kernel.PollPri != 0 {
		return refuse.Errorf("%s: out-of-band data waits on the unix socket, which kup cannot checkpoint; let the application read it and try again", d)
	}
	switch {
	case s.kind == kernel.SockDgram, v.inTree[s.peer] != nil:
		return nil
	case s.peer == 0 && s.state == kernel.TCPStateEstablished && s.shutdown != 3:
		// A peer that is gone would have shut both directions; this one exists, but no descriptor stands for it.
		return unfinishedConnection(d.String())
	case s.peer == 0:
		return nil
	}
	return refusePeer(d, s.peer)
}

// refusePeer refuses a connection to a process outside of the tree, and names it.
func refusePeer(d *Descriptor, peer uint64) error {
	pid, fd, comm := holderOfSocket(peer)
	if pid == 0 {
		return refuse.Passingf("%s: the unix socket's peer (inode %d) was not accepted yet, or is under way in a message; try again", d, peer)
	}
	return refuse.Errorf("%s: the unix socket is connected to pid %d (%s), fd %d, which is not checkpointed; checkpoint both together or close the connection", d, pid, comm, fd)
}
