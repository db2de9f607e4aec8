package object

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
)

// ErrConflict matches errors of a restore that failed because somebody else has the name, or nobody has the address, that a socket needs.
var ErrConflict = errors.New("conflict")

// conflictf makes an error that is also ErrConflict.
func conflictf(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrConflict, fmt.Errorf(format, args...))
}

// isSocket reports whether a descriptor is a socket of a family (AF_INET and AF_INET6 are one) and, unless 0, protocol.
func isSocket(d *Descriptor, family, protocol int) bool {
	if !strings.HasPrefix(d.Link, "socket:") {
		return false
	}
	kind, err := d.socketKind()
	if err != nil {
		return false
	}
	domain := kind.domain
	if domain == kernel.AFInet6 {
		domain = kernel.AFInet
	}
	return domain == family && (protocol == 0 || protocol == kind.protocol)
}

// socketKind is what never changes of a socket.
type socketKind struct{ domain, protocol int }

// socketKind asks a socket once.
func (d *Descriptor) socketKind() (socketKind, error) {
	if d.kind != nil {
		return *d.kind, nil
	}
	var kind socketKind
	var err error
	if kind.domain, err = kernel.SocketInt(d.File, kernel.SolSocket, kernel.SoDomain); err != nil {
		return kind, err
	}
	if kind.protocol, err = kernel.SocketInt(d.File, kernel.SolSocket, kernel.SoProtocol); err != nil {
		return kind, err
	}
	d.kind = &kind
	return kind, nil
}

func isInet6(fd int) (bool, error) {
	domain, err := kernel.SocketInt(fd, kernel.SolSocket, kernel.SoDomain)
	return domain == kernel.AFInet6, err
}

// socketOwner is who the socket's inode belongs to.
func socketOwner(d *Descriptor) image.SocketOwner {
	return image.SocketOwner{UID: d.Stat.Uid, GID: d.Stat.Gid}
}

// checkSocket refuses what makes any kind of socket impossible to restore.
func checkSocket(c *Capture, d *Descriptor) error {
	if err := checkAlone(c, d); err != nil {
		return err
	}
	ours, err := c.network.has(d.File)
	if err != nil {
		return fmt.Errorf("%s: network namespace of the socket: %w", d, err)
	}
	if !ours {
		return refuse.Errorf("%s is a socket of another network namespace, which kup cannot checkpoint; run kup in that namespace", d)
	}
	program, err := kernel.Filter(d.File)
	switch {
	case errors.Is(err, kernel.EACCES):
		return refuse.Errorf("%s: an eBPF filter is attached to the socket, which cannot be read; detach it", d)
	case err != nil:
		return fmt.Errorf("%s: SO_GET_FILTER: %w", d, err)
	case program != nil && !isOurs(program):
		return refuse.Errorf("%s: a packet filter is attached to the socket (SO_ATTACH_FILTER), which kup cannot checkpoint; detach it", d)
	}
	return nil
}

// network is kup's own network namespace, looked at once.
type network struct {
	once   sync.Once
	cookie uint64 // 0: the kernel does not tell it (before v5.14)
	inode  uint64
	err    error
}

func (n *network) look() {
	namespace, err := kernel.StatPath(procfs.Path(os.Getpid(), "ns/net"))
	if err != nil {
		n.err = err
		return
	}
	n.inode = namespace.Ino
	fd, err := kernel.Socket(kernel.AFUnix, kernel.SockDgram, 0)
	if err != nil {
		return
	}
	defer kernel.Close(fd)
	if cookie, err := kernel.NetworkCookie(fd); err == nil {
		n.cookie = cookie
	}
}

// has reports whether a socket is of this namespace.
func (n *network) has(fd int) (bool, error) {
	n.once.Do(n.look)
	if n.err != nil {
		return false, n.err
	}
	if n.cookie != 0 {
		its, err := kernel.NetworkCookie(fd)
		return its == n.cookie, err
	}
	its, err := kernel.SocketNamespace(fd)
	return its == n.inode, err
}

// The filters that capture attaches.
var (
	// silence drops every packet before TCP sees it.
	silence = []kernel.Instruction{{Code: 0x06}} // BPF_RET|BPF_K 0
	// silenceSYN drops packets that ask a listening socket for a new connection. Connections that the kernel makes of others
	// meanwhile inherit it, where it does nothing.
	silenceSYN = []kernel.Instruction{
		{Code: 0x30, K: 13},                // BPF_LD|BPF_B|BPF_ABS: the flags of the TCP header, where the packet begins for filters
		{Code: 0x45, Jt: 0, Jf: 1, K: 0x2}, // BPF_JMP|BPF_JSET|BPF_K: SYN
		{Code: 0x06},
		{Code: 0x06, K: 0xffffffff},
	}
)

// isOurs recognises what an earlier kup left: nothing that the application has put there.
func isOurs(program []kernel.Instruction) bool {
	same := func(a, b []kernel.Instruction) bool {
		if len(a) != len(b) {
			return false
		}
		for i := range a {
			if a[i] != b[i] {
				return false
			}
		}
		return true
	}
	return same(program, silence) || same(program, silenceSYN)
}

// encodeAddr makes a struct sockaddr_in or sockaddr_in6, see ip(7) and ipv6(7). The zone of an address is the name of an
// interface. An invalid address stands for any.
func encodeAddr(a netip.AddrPort, v6 bool) ([]byte, error) {
	if !v6 {
		b := make([]byte, 16)
		binary.LittleEndian.PutUint16(b, kernel.AFInet)
		binary.BigEndian.PutUint16(b[2:], a.Port())
		if a.Addr().IsValid() {
			four := a.Addr().Unmap().As4()
			copy(b[4:], four[:])
		}
		return b, nil
	}
	b := make([]byte, 28)
	binary.LittleEndian.PutUint16(b, kernel.AFInet6)
	binary.BigEndian.PutUint16(b[2:], a.Port())
	if a.Addr().IsValid() {
		sixteen := a.Addr().As16()
		copy(b[8:], sixteen[:])
	}
	if zone := a.Addr().Zone(); zone != "" {
		link, err := net.InterfaceByName(zone)
		if err != nil {
			return nil, conflictf("address %s: there is no interface %s", a, zone)
		}
		binary.LittleEndian.PutUint32(b[24:], uint32(link.Index))
	}
	return b, nil
}

// decodeAddr is the reverse of encodeAddr.
func decodeAddr(b []byte) (netip.AddrPort, error) {
	if len(b) < 2 {
		return netip.AddrPort{}, fmt.Errorf("a socket address of %d bytes", len(b))
	}
	family := binary.LittleEndian.Uint16(b)
	switch {
	case family == kernel.AFInet && len(b) >= 8:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:])), nil
	case family == kernel.AFInet6 && len(b) >= 28:
		addr := netip.AddrFrom16([16]byte(b[8:24]))
		if scope := binary.LittleEndian.Uint32(b[24:]); scope != 0 {
			link, err := net.InterfaceByIndex(int(scope))
			if err != nil {
				return netip.AddrPort{}, fmt.Errorf("interface %d of address %s: %w", scope, addr, err)
			}
			addr = addr.WithZone(link.Name)
		}
		return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[2:])), nil
	}
	return netip.AddrPort{}, fmt.Errorf("a socket address of family %d with %d bytes", family, len(b))
}

func localAddr(fd int) (netip.AddrPort, error) {
	b, err := kernel.SocketName(fd)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("getsockname: %w", err)
	}
	return decodeAddr(b)
}

func remoteAddr(fd int) (netip.AddrPort, error) {
	b, err := kernel.PeerName(fd)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("getpeername: %w", err)
	}
	return decodeAddr(b)
}

// bindInet binds a socket, and explains why it could not be bound.
func bindInet(fd int, a netip.AddrPort, v6 bool, protocol uint8) error {
	b, err := encodeAddr(a, v6)
	if err != nil {
		return err
	}
	switch err = kernel.Bind(fd, b); {
	case errors.Is(err, kernel.EADDRINUSE):
		return conflictf("address %s is taken%s", a, holderOfPort(a.Port(), protocol))
	case errors.Is(err, kernel.EADDRNOTAVAIL):
		return conflictf("address %s does not exist on this machine; bring its interface up first", a.Addr())
	case err != nil:
		return fmt.Errorf("bind to %s: %w", a, err)
	}
	return nil
}

// holderOfPort describes who uses a local port, as far as it can be found out; the text goes behind "is taken".
func holderOfPort(port uint16, protocol uint8) string {
	list := netlink.SocketDiagTCP
	if protocol == kernel.IPProtoUDP {
		list = netlink.SocketDiagUDP
	}
	remembered := ""
	for _, family := range []uint8{kernel.AFInet, kernel.AFInet6} {
		sockets, err := list(family)
		if err != nil {
			continue
		}
		for _, s := range sockets {
			if s.ID.SourcePort != port {
				continue
			}
			if s.INode == 0 {
				remembered = " by connections that were closed, which the kernel remembers for a minute (TIME_WAIT); try again then"
				continue
			}
			if pid, fd, comm := holderOfSocket(uint64(s.INode)); pid != 0 {
				return fmt.Sprintf(" by pid %d (%s), fd %d", pid, comm, fd)
			}
			return fmt.Sprintf(" by a socket of uid %d", s.UID)
		}
	}
	return remembered
}

// holderOfSocket finds a process that holds a socket; kup itself is left out. Pid is 0 if there is none.
func holderOfSocket(inode uint64) (pid, fd int, comm string) {
	link := fmt.Sprintf("socket:[%d]", inode)
	pids, err := procfs.Processes()
	if err != nil {
		return 0, 0, ""
	}
	for _, pid := range pids {
		if kernel.HasOurTable(pid) {
			continue
		}
		fds, err := procfs.FDs(pid)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if to, err := kernel.ReadLink(procfs.Path(pid, fmt.Sprintf("fd/%d", fd))); err != nil || to != link {
				continue
			}
			if stat, err := procfs.ReadStat(pid); err == nil {
				comm = stat.Comm
			}
			return pid, fd, comm
		}
	}
	return 0, 0, ""
}
