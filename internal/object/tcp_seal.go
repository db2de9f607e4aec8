package object

import (
	"errors"
	"fmt"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// heldSockets are kup's own duplicates of captured TCP sockets, kept until the application was thawed or killed.
type heldSockets struct {
	held []*heldSocket
	will *kernel.Will // turns repair mode off if kup dies
}

type heldSocket struct {
	fd   int
	name string // for messages
	tcp  *image.TCPSocket
}

// hold keeps a duplicate of a captured socket.
func (c *Capture) hold(d *Descriptor, s *image.TCPSocket) error {
	fd, err := kernel.Dup(d.File)
	if err != nil {
		return fmt.Errorf("%s: duplicate: %w", d, err)
	}
	c.sockets.held = append(c.sockets.held, &heldSocket{fd: fd, name: d.String(), tcp: s})
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
// If kup dies before ReleaseSockets, repair mode ends by itself.
func (c *Capture) SealNetwork() error {
	for _, h := range c.sockets.held {
		if err := h.unchanged(); err != nil {
			return err
		}
	}
	if err := c.endWill(); err != nil {
		return err
	}
	var err error
	if c.sockets.will, err = kernel.NewWill(2 * len(c.sockets.held)); err != nil {
		return err
	}
	for i, h := range c.sockets.held {
		if h.tcp.Connection == nil {
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

func (h *heldSocket) reuse() int { return option(h.tcp.Options, "SO_REUSEADDR") }

// UnsealNetwork takes SealNetwork back, for applications that are thawed after all.
func (c *Capture) UnsealNetwork() error {
	var failed []error
	for _, h := range c.sockets.held {
		if h.tcp.Connection != nil {
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
