package object

import (
	"errors"
	"fmt"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/parallel"
)

// heldSockets are kup's own duplicates of captured TCP and UDP sockets, kept until the application was thawed or killed.
type heldSockets struct {
	held []*heldSocket
	will *kernel.Will // turns repair mode off if kup dies
}

// heldSocket is one that CaptureNetwork reads. Exactly one of tcp and udp is set.
type heldSocket struct {
	fd   int
	pid  int
	name string // for messages
	tcp  *image.TCPSocket
	udp  *image.UDPSocket
}

// hold keeps a duplicate of a socket.
func (c *Capture) hold(d *Descriptor, s *image.TCPSocket) (*heldSocket, error) {
	fd, err := kernel.Dup(d.File)
	if err != nil {
		return nil, fmt.Errorf("%s: duplicate: %w", d, err)
	}
	h := &heldSocket{fd: fd, pid: d.PID, name: d.String(), tcp: s}
	c.sockets.held = append(c.sockets.held, h)
	return h, nil
}

// CaptureNetwork completes the state with connections and datagrams. It is called after everything else was captured, so that
// it reads what came in meanwhile: that need not be sent again.
func (c *Capture) CaptureNetwork() error {
	var read []*heldSocket
	for _, h := range c.sockets.held {
		var err error
		switch {
		case h.udp != nil:
			err = readUDP(h)
		case h.tcp.State != image.TCPListen:
			read = append(read, h)
			err = c.readTCP(h)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", h.name, err)
		}
	}
	// Options are most of what there is to ask, and can be asked of several at once.
	if err := parallel.Each(read, (*heldSocket).captureOptions); err != nil {
		return err
	}
	return c.unchanged()
}

// unchanged makes sure that no connection went on after it was read: a packet may have been on its way past the filter just
// when that was attached.
func (c *Capture) unchanged() error {
	for _, h := range c.sockets.held {
		if h.tcp == nil {
			continue
		}
		if err := h.unchanged(); err != nil {
			return err
		}
	}
	return nil
}

// repaired calls read while a socket is in repair mode, and leaves no trace of that mode whatever happens.
func (c *Capture) repaired(fd int, read func() error) (err error) {
	if c.sockets.will == nil {
		if c.sockets.will, err = kernel.NewWill(2); err != nil {
			return err
		}
	}
	will := c.sockets.will
	reuse, err := kernel.SocketInt(fd, kernel.SolSocket, kernel.SoReuseAddr)
	if err != nil {
		return fmt.Errorf("SO_REUSEADDR: %w", err)
	}
	will.SetSocketInt(0, fd, kernel.SolTCP, kernel.TCPRepair, kernel.TCPRepairOffSilent)
	will.SetSocketInt(1, fd, kernel.SolSocket, kernel.SoReuseAddr, reuse)
	defer func() {
		will.Revoke(0)
		will.Revoke(1)
	}()
	if err := kernel.SetSocketInt(fd, kernel.SolTCP, kernel.TCPRepair, kernel.TCPRepairOn); err != nil {
		return fmt.Errorf("TCP_REPAIR: %w", err)
	}
	return errors.Join(read(), endRepair(fd, reuse))
}

// endRepair turns repair mode off without sending anything, and gives SO_REUSEADDR back what that resets
// (net/ipv4/tcp.c, TCP_REPAIR_OFF_NO_WP).
func endRepair(fd, reuse int) error {
	if err := kernel.SetSocketInt(fd, kernel.SolTCP, kernel.TCPRepair, kernel.TCPRepairOffSilent); err != nil {
		return fmt.Errorf("end of TCP_REPAIR: %w", err)
	}
	if err := kernel.SetSocketInt(fd, kernel.SolSocket, kernel.SoReuseAddr, reuse); err != nil {
		return fmt.Errorf("SO_REUSEADDR: %w", err)
	}
	return nil
}

// SealNetwork makes the captured connections ready for the end of their processes: each goes into repair mode, in which a
// socket vanishes without a word to its peer. It is called when the image is complete and the network is locked, just before the
// processes are killed. It fails if a connection went on after it was captured; the application must be thawed then.
//
// If kup dies before KeepSeal, repair mode ends by itself.
func (c *Capture) SealNetwork() error {
	if err := c.unchanged(); err != nil {
		return err
	}
	if err := c.endWill(); err != nil {
		return err
	}
	var err error
	if c.sockets.will, err = kernel.NewWill(2 * len(c.sockets.held)); err != nil {
		return err
	}
	for i, h := range c.sockets.held {
		if !h.connected() {
			continue
		}
		c.sockets.will.SetSocketInt(2*i, h.fd, kernel.SolTCP, kernel.TCPRepair, kernel.TCPRepairOffSilent)
		c.sockets.will.SetSocketInt(2*i+1, h.fd, kernel.SolSocket, kernel.SoReuseAddr, h.reuse())
		if err := kernel.SetSocketInt(h.fd, kernel.SolTCP, kernel.TCPRepair, kernel.TCPRepairOn); err != nil {
			return fmt.Errorf("%s: TCP_REPAIR: %w", h.name, err)
		}
	}
	return nil
}

func (h *heldSocket) connected() bool { return h.tcp != nil && h.tcp.Connection != nil }

func (h *heldSocket) reuse() int { return option(h.tcp.Options, "SO_REUSEADDR") }

// KeepSeal makes the connections stay mute even if kup dies: from here on the application is being ended.
func (c *Capture) KeepSeal() {
	if c.sockets.will != nil {
		c.sockets.will.RevokeAll()
	}
}

// UnsealNetwork takes SealNetwork back, for applications that are thawed after all.
func (c *Capture) UnsealNetwork() error {
	var failed []error
	for _, h := range c.sockets.held {
		if h.connected() {
			failed = append(failed, endRepair(h.fd, h.reuse()))
		}
	}
	return errors.Join(failed...)
}

// ReleaseSockets gives up the duplicates of captured sockets. It is called once the processes were thawed or are gone.
func (c *Capture) ReleaseSockets() error {
	err := c.endWill()
	for _, h := range c.sockets.held {
		kernel.Close(h.fd)
	}
	c.sockets.held = nil
	return err
}

func (c *Capture) endWill() error {
	if c.sockets.will == nil {
		return nil
	}
	err := c.sockets.will.Close()
	c.sockets.will = nil
	return err
}
