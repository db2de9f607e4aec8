package object

import (
	"errors"
	"fmt"
	"slices"

	"github.com/kup-project/kup/internal/kernel"
)

// Hush makes listening TCP sockets deaf to requests for new connections. An application that had connections waiting to be accepted when it was frozen is thawed,
// accepts them, and has no others when it is frozen again. Clients repeat what nobody heard.
//
// If kup dies, the sockets hear again. While one is deaf kup has it open, too: should the application close it in these milliseconds, its address stays taken for as
// long.
type Hush struct {
	deaf  map[uint64]int // kup's duplicates, by inode
	wills []*kernel.Will
}

// hears tells whether a descriptor is of a socket to be made deaf. One that has a filter of its own will be refused.
func (h *Hush) hears(d *Descriptor) bool {
	if _, deaf := h.deaf[d.Stat.Ino]; deaf || !isSocket(d, kernel.AFInet, kernel.IPProtoTCP) {
		return false
	}
	if info, err := readTCPInfo(d.File); err != nil || info.state != kernel.TCPStateListen {
		return false
	}
	program, err := kernel.Filter(d.File)
	return err == nil && (program == nil || isOurs(program))
}

// over makes the listening ones among the captured deaf that are not yet.
func (h *Hush) over(all []captured) error {
	var found []*Descriptor
	for _, one := range all {
		if h.hears(one.d) {
			found = append(found, one.d)
		}
	}
	if len(found) == 0 {
		return nil
	}
	will, err := kernel.NewTracersWill(len(found))
	if err != nil {
		return err
	}
	h.wills = append(h.wills, will)
	for i, d := range found {
		fd, err := kernel.Dup(d.File)
		if err != nil {
			return fmt.Errorf("%s: %w", d, err)
		}
		if h.deaf == nil {
			h.deaf = map[uint64]int{}
		}
		h.deaf[d.Stat.Ino] = fd
		will.SetSocketInt(i, fd, kernel.SolSocket, kernel.SoDetachFilter, 0)
		if err := attachFilter(fd, silenceSYN); err != nil {
			return fmt.Errorf("%s: %w", d, err)
		}
	}
	return nil
}

// End makes the sockets hear again.
func (h *Hush) End() error {
	var failed []error
	for _, fd := range h.deaf {
		failed = append(failed, detachFilter(fd))
	}
	return errors.Join(errors.Join(failed...), h.leave())
}

// leave leaves the sockets deaf, to who takes that back.
func (h *Hush) leave() error {
	var failed []error
	for _, will := range h.wills {
		failed = append(failed, will.Close())
	}
	for _, fd := range h.deaf {
		kernel.Close(fd)
	}
	h.deaf, h.wills = nil, nil
	return errors.Join(failed...)
}

// AsksItself tells whether what was taken connects to its own listening sockets, or waits for a connection. A request that nobody hears is repeated after a second:
// such an application had better be heard while it runs.
func (c *Capture) AsksItself() bool {
	listening := map[uint16]bool{}
	var others []*Descriptor
	for _, one := range c.captured {
		d := one.d
		if !tcp.Claims(d) && !mptcp.Claims(d) {
			continue
		}
		switch info, err := readTCPInfo(d.File); {
		case err != nil, info.state == kernel.TCPStateSynSent:
			return true
		case info.state != kernel.TCPStateListen:
			others = append(others, d)
		default:
			if local, err := localAddr(d.File); err == nil {
				listening[local.Port()] = true
			}
		}
	}
	return slices.ContainsFunc(others, func(d *Descriptor) bool {
		remote, err := remoteAddr(d.File)
		return err == nil && listening[remote.Port()]
	})
}
