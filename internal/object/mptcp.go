package object

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/refuse"
)

// protocolMPTCP is IPPROTO_MPTCP of include/uapi/linux/in.h.
const protocolMPTCP = 262

// withoutMPTCP is the remedy in refusals.
const withoutMPTCP = "let the application use plain TCP (a Go program: start it with GODEBUG=multipathtcp=0)"

var v6OnlyOption = optionByName["IPV6_V6ONLY"]

// mptcp handles sockets of Multipath TCP (RFC 8684) that are not connected. Servers in Go listen with such sockets.
//
// What a listening one accepts from a peer without MPTCP is a plain TCP socket (net/mptcp/protocol.c, mptcp_stream_accept), which the
// handler of TCP takes. Connections that do speak MPTCP are refused: TCP_REPAIR does not know them.
//
// These sockets take no filter, so nothing keeps the kernel from answering requests for connections while the application is
// frozen: that is up to the owner of the capture, see Undeafened. Connections that wait to be accepted are refused as for TCP.
//
// What the kernel lets applications set but does not tell again, such as IP_FREEBIND before v6.14, is not restored.
var mptcp = &Handler{
	Kind:    image.KindMPTCP,
	Claims:  func(d *Descriptor) bool { return isSocket(d, kernel.AFInet, protocolMPTCP) },
	Check:   checkMPTCP,
	Capture: captureMPTCP,
	Rebuild: rebuildMPTCP,
}

// Undeafened returns, of what was taken, the addresses of listening sockets that answer requests for connections though the application is frozen
// (netlock.LockRequests prevents it).
func (c *Capture) Undeafened() ([]netip.AddrPort, error) {
	var all []netip.AddrPort
	for _, one := range c.captured {
		if !mptcp.Claims(one.d) {
			continue
		}
		info, err := readTCPInfo(one.d.File)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", one.d, err)
		}
		if info.state != kernel.TCPStateListen {
			continue
		}
		local, err := localAddr(one.d.File)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", one.d, err)
		}
		all = append(all, local)
	}
	return all, nil
}

func checkMPTCP(c *Capture, d *Descriptor) error {
	if err := checkSocket(c, d); err != nil {
		return err
	}
	info, err := idleMPTCP(d)
	if err != nil {
		return err
	}
	if v6, err := isInet6(d.File); err != nil || v6 {
		if err == nil {
			_, err = onlyIPv6(d)
		}
		if err != nil {
			return err
		}
	}
	if info.state == kernel.TCPStateListen && info.unacked > 0 {
		return pendingConnections(d.String(), int(info.unacked))
	}
	return nil
}

// onlyIPv6 returns IPV6_V6ONLY, which decides who can connect. Before v6.15 (and stable kernels of that time) getsockopt does not tell it, but of
// listening sockets sock_diag does.
func onlyIPv6(d *Descriptor) (bool, error) {
	only, err := kernel.SocketInt(d.File, v6OnlyOption.level, v6OnlyOption.option)
	if !unknownOption(err) {
		if err != nil {
			err = fmt.Errorf("%s: getsockopt IPV6_V6ONLY: %w", d, err)
		}
		return only != 0, err
	}
	known, found, err := listenerOnlyIPv6(d.Stat.Ino)
	if err != nil {
		return false, fmt.Errorf("%s: %w", d, err)
	}
	if !found {
		return false, refuse.Errorf("%s is an MPTCP socket that does not listen, of which this kernel does not tell IPV6_V6ONLY (since 6.15 it does); %s", d, withoutMPTCP)
	}
	return known, nil
}

// idleMPTCP refuses sockets that have, or had, a connection. What it returns describes the first subflow, which is all there is of others.
func idleMPTCP(d *Descriptor) (tcpInfo, error) {
	info, err := readTCPInfo(d.File)
	if err != nil {
		return info, fmt.Errorf("%s: MPTCP socket: %w", d, err)
	}
	if info.state == kernel.TCPStateListen {
		return info, nil
	}
	// The first subflow of a connection may be closed while others live on.
	_, peer := kernel.PeerName(d.File)
	if peer != nil && !errors.Is(peer, kernel.ENOTCONN) {
		return info, fmt.Errorf("%s: getpeername: %w", d, peer)
	}
	events, err := kernel.PollNow(d.File, kernel.PollRdHup)
	if err != nil {
		return info, fmt.Errorf("%s: poll: %w", d, err)
	}
	if info.state != kernel.TCPStateClose || peer == nil || events&kernel.PollRdHup != 0 {
		return info, refuse.Errorf("%s is a connection made with an MPTCP socket, which kup cannot checkpoint; close it, or %s", d, withoutMPTCP)
	}
	return info, nil
}

func captureMPTCP(c *Capture, d *Descriptor, f *image.OpenFile) error {
	info, err := idleMPTCP(d)
	if err != nil {
		return err
	}
	s := &image.TCPSocket{State: tcpStates[info.state], Owner: socketOwner(d)}
	f.MPTCP = s
	if s.V6, err = isInet6(d.File); err != nil {
		return fmt.Errorf("%s: %w", d, err)
	}
	if s.Local, err = localAddr(d.File); err != nil {
		return fmt.Errorf("%s: %w", d, err)
	}
	if s.Options, err = mptcpOptions(d, s); err != nil {
		return err
	}
	if s.State != image.TCPListen {
		return nil
	}
	s.Backlog = int(info.sacked)
	c.hold(d).tcp = s // to see that nothing comes in until the end
	return nil
}

func mptcpOptions(d *Descriptor, s *image.TCPSocket) ([]image.SocketOption, error) {
	options, err := captureTCPOptions(d.File, s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d, err)
	}
	told := slices.ContainsFunc(options, func(o image.SocketOption) bool { return o.Name == v6OnlyOption.name })
	if !s.V6 || told {
		return options, nil
	}
	only, err := onlyIPv6(d)
	if err != nil {
		return nil, err
	}
	o := image.SocketOption{Name: v6OnlyOption.name}
	if only {
		o.Value = 1
	}
	return append([]image.SocketOption{o}, options...), nil
}

// rebuildMPTCP makes a socket. Where the kernel has no MPTCP (CONFIG_MPTCP, net.mptcp.enabled), or its MPTCP sockets lack an
// option that this one has, a plain TCP socket takes its place. Peers see no difference: those that speak MPTCP fall back to
// TCP (RFC 8684, section 3.7), and what was accepted from others is plain TCP anyway.
func rebuildMPTCP(_ *Rebuild, f *image.OpenFile) (int, error) {
	fd, err := newMPTCP(f.MPTCP)
	if err != nil && (unknownOption(err) || errors.Is(err, kernel.EPROTONOSUPPORT)) {
		return newTCP(f.MPTCP)
	}
	return fd, err
}

// newMPTCP fails with ENOPROTOOPT, EOPNOTSUPP or EPROTONOSUPPORT if the kernel does not know such a socket.
func newMPTCP(s *image.TCPSocket) (int, error) {
	family := kernel.AFInet
	if s.V6 {
		family = kernel.AFInet6
	}
	fd, err := kernel.Socket(family, kernel.SockStream, protocolMPTCP)
	if err != nil {
		return -1, fmt.Errorf("MPTCP socket: %w", err)
	}
	if err := buildMPTCP(fd, family, s); err != nil {
		kernel.Close(fd)
		return -1, err
	}
	return fd, nil
}

func buildMPTCP(fd, family int, s *image.TCPSocket) error {
	if err := kernel.ChangeOwner(fd, s.Owner.UID, s.Owner.GID); err != nil {
		return fmt.Errorf("owner of the socket: %w", err)
	}
	options, err := neededOptions(fd, family, s.Options)
	if err != nil {
		return err
	}
	if err := setOptions(fd, options, beforeLife); err != nil {
		return err
	}
	if err := setReuse(fd, options); err != nil {
		return err
	}
	if s.Local.Port() != 0 {
		if err := bindInet(fd, s.Local, s.V6, kernel.IPProtoTCP); err != nil {
			return err
		}
	}
	if err := fixBuffers(fd, options); err != nil {
		return err
	}
	if err := setOptions(fd, options, afterBirth); err != nil {
		return err
	}
	if s.State != image.TCPListen {
		return nil
	}
	return listenInet(fd, s)
}

// neededOptions leaves out what this kernel's MPTCP sockets do not know, and what is no different from plain TCP's default.
func neededOptions(fd, family int, options []image.SocketOption) ([]image.SocketOption, error) {
	known, err := defaultsLike(fd)
	if err != nil {
		return nil, err
	}
	plain, err := kernel.Socket(family, kernel.SockStream, kernel.IPProtoTCP)
	if err != nil {
		return nil, fmt.Errorf("TCP socket: %w", err)
	}
	defer kernel.Close(plain)
	usual, err := defaultsLike(plain)
	if err != nil {
		return nil, err
	}
	var needed []image.SocketOption
	for _, o := range options {
		_, here := known[o.Name]
		if d, there := usual[o.Name]; !here && there && d.Value == o.Value && bytes.Equal(d.Data, o.Data) {
			continue
		}
		needed = append(needed, o)
	}
	return needed, nil
}

// fixBuffers sets the sizes that the application has fixed. Others are the system's: MPTCP sockets have no SO_BUF_LOCK to give them free again.
func fixBuffers(fd int, options []image.SocketOption) error {
	const sendLock, receiveLock = 1, 2 // SOCK_SNDBUF_LOCK and SOCK_RCVBUF_LOCK of include/uapi/linux/socket.h
	lock := option(options, optBufLock)
	if lock&sendLock != 0 {
		if err := kernel.SetSocketInt(fd, kernel.SolSocket, kernel.SoSndBufForce, option(options, optSndBuf)/2); err != nil {
			return fmt.Errorf("SO_SNDBUFFORCE: %w", err)
		}
	}
	if lock&receiveLock != 0 {
		if err := kernel.SetSocketInt(fd, kernel.SolSocket, kernel.SoRcvBufForce, option(options, optRcvBuf)/2); err != nil {
			return fmt.Errorf("SO_RCVBUFFORCE: %w", err)
		}
	}
	return nil
}
