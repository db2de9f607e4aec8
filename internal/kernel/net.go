package kernel

import (
	"bytes"
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Address families, socket types and protocols, see socket(2).
const (
	AFUnix        = unix.AF_UNIX
	AFInet        = unix.AF_INET
	AFInet6       = unix.AF_INET6
	SockStream    = unix.SOCK_STREAM
	SockDgram     = unix.SOCK_DGRAM
	SockSeqPacket = unix.SOCK_SEQPACKET
	SockRaw       = unix.SOCK_RAW
	IPProtoTCP    = unix.IPPROTO_TCP
	IPProtoUDP    = unix.IPPROTO_UDP
	IPProtoICMPv6 = unix.IPPROTO_ICMPV6
	IPProtoRaw    = unix.IPPROTO_RAW

	NFProtoIPv4    = unix.NFPROTO_IPV4
	NFProtoIPv6    = unix.NFPROTO_IPV6
	ARPHRDLoopback = unix.ARPHRD_LOOPBACK // the type of the loopback interface
)

// Flags of send(2) and recv(2).
const (
	MsgPeek     = unix.MSG_PEEK
	MsgTrunc    = unix.MSG_TRUNC
	MsgCTrunc   = unix.MSG_CTRUNC
	MsgDontWait = unix.MSG_DONTWAIT
	MsgNoSignal = unix.MSG_NOSIGNAL
)

// Arguments of shutdown(2).
const (
	ShutRead      = unix.SHUT_RD
	ShutWrite     = unix.SHUT_WR
	ShutReadWrite = unix.SHUT_RDWR
)

// Queries of socket queues by ioctl(2), see tcp(7).
const (
	SIOCInQ      = unix.SIOCINQ
	SIOCOutQ     = unix.SIOCOUTQ
	SIOCOutQNSD  = 0x894B // bytes never sent, include/uapi/linux/sockios.h
	SIOCUnixFile = 0x89E0 // SIOCPROTOPRIVATE: opens the file behind a bound unix socket, net/unix/af_unix.c, unix_open_file
)

// Events of poll(2).
const (
	PollIn    = unix.POLLIN
	PollPri   = unix.POLLPRI
	PollOut   = unix.POLLOUT
	PollErr   = unix.POLLERR
	PollHup   = unix.POLLHUP
	PollRdHup = unix.POLLRDHUP
)

// Error numbers of sockets, see errno(3).
const (
	EADDRINUSE      = unix.EADDRINUSE
	EADDRNOTAVAIL   = unix.EADDRNOTAVAIL
	ENETUNREACH     = unix.ENETUNREACH
	EHOSTUNREACH    = unix.EHOSTUNREACH
	ENOPROTOOPT     = unix.ENOPROTOOPT
	EOPNOTSUPP      = unix.EOPNOTSUPP
	EAFNOSUPPORT    = unix.EAFNOSUPPORT
	EPROTONOSUPPORT = unix.EPROTONOSUPPORT
	ENOTCONN        = unix.ENOTCONN
	ECONNREFUSED    = unix.ECONNREFUSED
	ECONNRESET      = unix.ECONNRESET
	ENODATA         = unix.ENODATA
	ENOBUFS         = unix.ENOBUFS
	EPROTOTYPE      = unix.EPROTOTYPE
)

// Socket is socket(2), close-on-exec always added.
func Socket(family, kind, protocol int) (int, error) {
	return unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
}

// NetfilterSocket opens a netlink(7) socket to the netfilter subsystems.
func NetfilterSocket() (int, error) {
	return Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER)
}

// SocketPair is socketpair(2) in the family AF_UNIX, close-on-exec.
func SocketPair(kind int) (a, b int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	return pair[0], pair[1], err
}

// Bind is bind(2) with an encoded address.
func Bind(fd int, addr []byte) error { return addressCall(unix.SYS_BIND, fd, addr) }

// ConnectTo is connect(2) with an encoded address.
func ConnectTo(fd int, addr []byte) error { return addressCall(unix.SYS_CONNECT, fd, addr) }

func addressCall(nr uintptr, fd int, addr []byte) error {
	_, _, e := unix.Syscall(nr, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(addr))), uintptr(len(addr)))
	return errno(e)
}

// Listen is listen(2).
func Listen(fd, backlog int) error { return unix.Listen(fd, backlog) }

// Accept is accept4(2) without interest in the peer's address, close-on-exec.
func Accept(fd int) (int, error) {
	n, _, e := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_CLOEXEC, 0, 0)
	if e != 0 {
		return -1, e
	}
	return int(n), nil
}

// Shutdown is shutdown(2).
func Shutdown(fd, how int) error { return unix.Shutdown(fd, how) }

// SocketName is getsockname(2): the encoded local address.
func SocketName(fd int) ([]byte, error) { return nameCall(unix.SYS_GETSOCKNAME, fd) }

// PeerName is getpeername(2): the encoded remote address.
func PeerName(fd int) ([]byte, error) { return nameCall(unix.SYS_GETPEERNAME, fd) }

func nameCall(nr uintptr, fd int) ([]byte, error) {
	buf := make([]byte, unix.SizeofSockaddrAny)
	size := uint32(len(buf))
	_, _, e := unix.Syscall(nr, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)))
	if e != 0 {
		return nil, e
	}
	return buf[:min(int(size), len(buf))], nil
}

// SocketOption reads a socket option into buf and returns how many bytes the kernel filled, or for some options (filters)
// how many elements there are. The raw call may be made because reading an option does not sleep.
func SocketOption(fd, level, name int, buf []byte) (int, error) {
	size := uint32(len(buf))
	_, _, e := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(unsafe.Pointer(&size)), 0)
	return int(size), errno(e)
}

// SetSocketOption sets a socket option.
func SetSocketOption(fd, level, name int, value []byte) error {
	_, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(unsafe.SliceData(value))), uintptr(len(value)), 0)
	return errno(e)
}

// SocketInt reads a socket option that is an int. It is as raw as SocketOption.
func SocketInt(fd, level, name int) (int, error) {
	value, size := int32(0), uint32(4)
	_, _, e := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&value)), uintptr(unsafe.Pointer(&size)), 0)
	return int(value), errno(e)
}

// SetSocketInt sets a socket option that is an int.
func SetSocketInt(fd, level, name, value int) error {
	return unix.SetsockoptInt(fd, level, name, value)
}

// SocketQueue asks one of the SIOC queries for a number of bytes.
func SocketQueue(fd, query int) (int, error) { return unix.IoctlGetInt(fd, uint(query)) }

// OpenSocketFile opens, with O_PATH, the file system node that a bound unix socket was given, wherever it is now. It needs
// CAP_NET_ADMIN over the socket's network namespace.
func OpenSocketFile(fd int) (int, error) {
	n, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), SIOCUnixFile, 0)
	if e != 0 {
		return -1, e
	}
	return int(n), nil
}

// SocketMessage is what ReceiveMessage got.
type SocketMessage struct {
	Data    []byte
	Control []byte // control messages, see cmsg(3)
	From    []byte // encoded address of the sender, empty if it has none
	Flags   int    // MSG_TRUNC, MSG_CTRUNC
}

// ReceiveMessage is recvmsg(2) into fresh buffers of the given sizes.
func ReceiveMessage(fd, size, control, flags int) (*SocketMessage, error) {
	m := &SocketMessage{Data: make([]byte, size), Control: make([]byte, control), From: make([]byte, unix.SizeofSockaddrAny)}
	iov := unix.Iovec{Base: unsafe.SliceData(m.Data), Len: uint64(size)}
	hdr := unix.Msghdr{
		Name: &m.From[0], Namelen: uint32(len(m.From)), Iov: &iov, Iovlen: 1,
		Control: unsafe.SliceData(m.Control), Controllen: uint64(control),
	}
	n, _, e := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&hdr)), uintptr(flags))
	if e != 0 {
		return nil, e
	}
	m.Data, m.Control, m.From, m.Flags = m.Data[:min(int(n), size)], m.Control[:hdr.Controllen], m.From[:hdr.Namelen], int(hdr.Flags)
	return m, nil
}

// SendTo is sendto(2); addr is nil for connected sockets. SIGPIPE is never raised.
func SendTo(fd int, data []byte, flags int, addr []byte) (int, error) {
	for {
		n, _, e := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(len(data)),
			uintptr(flags|unix.MSG_NOSIGNAL), uintptr(unsafe.Pointer(unsafe.SliceData(addr))), uintptr(len(addr)))
		if e != unix.EINTR {
			return int(n), errno(e)
		}
	}
}

// PollNow returns which of the events hold for a descriptor at this moment (POLLERR and POLLHUP are always included).
func PollNow(fd int, events int16) (int16, error) {
	p := []unix.PollFd{{Fd: int32(fd), Events: events}}
	err := ignoringEINTR(func() error { _, err := unix.Poll(p, 0); return err })
	return p[0].Revents, err
}

// SocketProtocol returns what kind of socket a link in /proc/PID/fd leads to, by the name of its protocol in the kernel ("TCP",
// "UNIX-STREAM"): the extended attribute of net/socket.c, sockfs_xattr_get.
func SocketProtocol(path string) (string, error) {
	buf := make([]byte, 64)
	n, err := unix.Getxattr(path, "system.sockprotoname", buf)
	if err != nil {
		return "", err
	}
	return string(bytes.TrimRight(buf[:n], "\x00")), nil
}

// UcredSpace is the room that a control message with a struct ucred takes.
var UcredSpace = unix.CmsgSpace(unix.SizeofUcred)

// SocketUcred reads an option that is a struct ucred, as SO_PEERCRED.
func SocketUcred(fd, level, name int) (pid int, uid, gid uint32, err error) {
	c, err := unix.GetsockoptUcred(fd, level, name)
	if err != nil {
		return 0, 0, 0, err
	}
	return int(c.Pid), c.Uid, c.Gid, nil
}

// SetUmask is umask(2), which decides the mode of the node that bind(2) makes.
func SetUmask(mask uint32) uint32 { return uint32(unix.Umask(int(mask))) }

func errno(e unix.Errno) error {
	if e != 0 {
		return e
	}
	return nil
}

// Instruction is one instruction of a classic BPF program, struct sock_filter.
type Instruction = unix.SockFilter

// AttachFilter makes a classic BPF program decide which packets a socket gets, see SO_ATTACH_FILTER in socket(7).
func AttachFilter(fd int, program []Instruction) error {
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog)
}

// DropAll loads a program that drops every packet, for AttachProgram: the kernel checks and translates it once, which is most of what AttachFilter costs. It
// fails on kernels without bpf(2), or that do not let kup call it.
func DropAll() (program int, err error) {
	code := [...]uint64{0xb7, 0x95} // struct bpf_insn: BPF_ALU64|BPF_MOV|BPF_K r0, 0; BPF_JMP|BPF_EXIT
	license := [...]byte{0}
	attr := struct { // of union bpf_attr, for BPF_PROG_LOAD
		kind, count    uint32
		code, license  unsafe.Pointer
		logLevel, size uint32
		log            unsafe.Pointer
		version, flags uint32
		name           [16]byte
	}{kind: unix.BPF_PROG_TYPE_SOCKET_FILTER, count: uint32(len(code)), code: unsafe.Pointer(&code), license: unsafe.Pointer(&license)}
	n, _, e := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if e != 0 {
		return -1, e
	}
	return int(n), nil
}

// AttachProgram makes a loaded program decide which packets a socket gets, see SO_ATTACH_BPF in socket(7). DetachFilter takes it away.
func AttachProgram(fd, program int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, program)
}

// DetachFilter takes the program away; ENOENT if there is none.
func DetachFilter(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
}

// Filter reads the classic program of a socket, nil if there is none. EACCES: there is one that is not classic.
func Filter(fd int) ([]Instruction, error) {
	size := uint32(0)
	query := func(p unsafe.Pointer) error {
		_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_GET_FILTER,
			uintptr(p), uintptr(unsafe.Pointer(&size)), 0)
		return errno(e)
	}
	// The length is counted in instructions, and 0 asks for it: net/core/filter.c, sk_get_filter.
	if err := query(nil); err != nil || size == 0 {
		return nil, err
	}
	program := make([]Instruction, size)
	if err := query(unsafe.Pointer(&program[0])); err != nil {
		return nil, err
	}
	return program[:size], nil
}

// NetworkCookie identifies the network namespace of a socket until the next boot (SO_NETNS_COOKIE, since v5.14).
func NetworkCookie(fd int) (uint64, error) {
	const soNetnsCookie = 71
	var cookie [8]byte
	_, err := SocketOption(fd, SolSocket, soNetnsCookie, cookie[:])
	return binary.NativeEndian.Uint64(cookie[:]), err
}

// SocketNamespace identifies the network namespace of a socket: the inode number that /proc/PID/ns/net has for it
// (SIOCGSKNS of include/uapi/linux/sockios.h). It needs CAP_NET_ADMIN there, and is slower than NetworkCookie.
func SocketNamespace(fd int) (uint64, error) {
	const siocgskns = 0x894C
	ns, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), siocgskns, 0)
	if e != 0 {
		return 0, e
	}
	defer unix.Close(int(ns))
	var s unix.Stat_t
	err := unix.Fstat(int(ns), &s)
	return s.Ino, err
}
