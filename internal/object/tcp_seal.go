package object

import (
	"errors"
	"fmt"
	"slices"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/parallel"
)

// heldSockets are kup's own duplicates of captured TCP and UDP sockets, kept until the application was thawed or killed.
type heldSockets struct {
	held []*heldSocket
	will *kernel.Will // turns repair mode off if kup dies: two clauses for each of held
	// program drops every packet. 0: there is none, and each socket gets a filter of its own.
	program int
}

// heldSocket is one that CaptureNetwork reads. Exactly one of tcp and udp is set.
type heldSocket struct {
	fd   int
	pid  int
	name string // for messages
	will int    // its first clause
	tcp  *image.TCPSocket
	udp  *image.UDPSocket
}

// hold takes kup's duplicate of a socket out of the descriptor, to keep it.
func (c *Capture) hold(d *Descriptor) *heldSocket {
	h := &heldSocket{fd: d.File, pid: d.PID, name: d.String(), will: 2 * len(c.sockets.held)}
	d.File = -1
	c.sockets.held = append(c.sockets.held, h)
	return h
}

// CaptureNetwork completes the state with connections and datagrams. It is called after everything else was captured, so that
// it reads what came in meanwhile: that need not be sent again.
func (c *Capture) CaptureNetwork() error {
	if slices.ContainsFunc(c.sockets.held, (*heldSocket).mayBeConnected) {
		if err := c.newWill(); err != nil {
			return err
		}
	}
	defer c.shareSilence()()
	if err := parallel.Urgently(c.sockets.held, c.read); err != nil {
		return err
	}
	return c.unchanged()
}

// shareSilence loads a program for all connections, if there are so many that it pays, and returns what gives it up again: sockets keep what they need of it.
func (c *Capture) shareSilence() (giveUp func()) {
	const many = 100
	if len(c.sockets.held) < many {
		return func() {}
	}
	program, err := kernel.DropAll()
	if err != nil {
		return func() {}
	}
	c.sockets.program = program
	return func() {
		kernel.Close(program)
		c.sockets.program = 0
	}
}

// silence makes a connection deaf: no packet comes to TCP any more.
func (s *heldSockets) silence(fd int) error {
	if s.program != 0 && kernel.AttachProgram(fd, s.program) == nil {
		return nil
	}
	return attachFilter(fd, silence)
}

// read completes one socket.
func (c *Capture) read(h *heldSocket) (err error) {
	switch {
	case h.udp != nil:
		err = readUDP(h)
	case h.mayBeConnected():
		if err = c.readTCP(h); err == nil {
			err = h.captureOptions()
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", h.name, err)
	}
	return nil
}

// newWill makes an empty will for all held sockets.
func (c *Capture) newWill() (err error) {
	if err := c.endWill(); err != nil {
		return err
	}
	c.sockets.will, err = kernel.NewTracersWill(2 * len(c.sockets.held))
	return err
}

// bequeath makes repair mode end if kup dies, and gives SO_REUSEADDR back what that resets.
func (h *heldSocket) bequeath(will *kernel.Will, reuse int) {
	will.SetSocketInt(h.will, h.fd, kernel.SolTCP, kernel.TCPRepair, kernel.TCPRepairOffSilent)
	will.SetSocketInt(h.will+1, h.fd, kernel.SolSocket, kernel.SoReuseAddr, reuse)
}

// unchanged makes sure that no connection went on after it was read: a packet may have been on its way past the filter just
// when that was attached.
func (c *Capture) unchanged() error {
	return parallel.Urgently(c.sockets.held, func(h *heldSocket) error {
		if h.tcp == nil {
			return nil
		}
		return h.unchanged()
	})
}

// repaired calls read while a socket is in repair mode, and leaves no trace of that mode whatever happens.
func (c *Capture) repaired(h *heldSocket, read func() error) error {
	will, fd := c.sockets.will, h.fd
	reuse, err := kernel.SocketInt(fd, kernel.SolSocket, kernel.SoReuseAddr)
	if err != nil {
		return fmt.Errorf("SO_REUSEADDR: %w", err)
	}
	h.bequeath(will, reuse)
	defer func() {
		will.Revoke(h.will)
		will.Revoke(h.will + 1)
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
	if err := c.newWill(); err != nil {
		return err
	}
	for _, h := range c.sockets.held {
		if !h.connected() {
			continue
		}
		h.bequeath(c.sockets.will, h.reuse())
		if err := kernel.SetSocketInt(h.fd, kernel.SolTCP, kernel.TCPRepair, kernel.TCPRepairOn); err != nil {
			return fmt.Errorf("%s: TCP_REPAIR: %w", h.name, err)
		}
	}
	return nil
}

// mayBeConnected says it of a socket that has not been read yet.
func (h *heldSocket) mayBeConnected() bool { return h.tcp != nil && h.tcp.State != image.TCPListen }

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
