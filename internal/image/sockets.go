package image

import "net/netip"

// SocketOption is one socket option as getsockopt(2) gave it. Options are kept by name, since that is what people read.
type SocketOption struct {
	Name  string `json:"name"`           // of the C headers: SO_KEEPALIVE, TCP_NODELAY, ...
	Value int64  `json:"value"`          // of an option that is an integer
	Data  []byte `json:"data,omitempty"` // of an option that is a structure or a string
}

// SocketOwner is the owner of a socket's inode in sockfs: what firewall rules and sock_diag(7) see, see fchown in
// net/socket.c, sockfs_setattr.
type SocketOwner struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
}

// UnixState says what became of a unix socket since socket(2).
type UnixState string

const (
	UnixUnconnected UnixState = "unconnected" // fresh, or bound, or a datagram socket without default peer
	UnixListening   UnixState = "listening"
	UnixConnected   UnixState = "connected"
	UnixOrphaned    UnixState = "orphaned" // was connected, and the peer has closed its end
)

// UnixSocket is a socket of the family AF_UNIX. Sockets refer to each other by inode number, which is unique in a checkpoint
// and means nothing afterwards.
type UnixSocket struct {
	Inode   uint64        `json:"inode"`
	Peer    uint64        `json:"peer"` // Inode of the socket it is connected to, 0 if none
	Type    int           `json:"type"` // SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET
	State   UnixState     `json:"state"`
	Owner   SocketOwner   `json:"socket_owner"`
	Options SocketOptions `json:"options,omitempty"`

	// Name is its address: the bytes of sun_path, which begin with a zero byte in the abstract namespace; empty if unbound.
	Name []byte `json:"name,omitempty"`
	// Node is the socket file behind a path name, as it was at the checkpoint; nil if there was none (abstract, or unlinked).
	Node *UnixNode `json:"node,omitempty"`

	// PeerName is the address that a datagram socket is connected to, if the socket there is not part of the image.
	PeerName []byte `json:"peer_name,omitempty"`

	Backlog   int           `json:"backlog"`    // listen(2)
	ShutRead  bool          `json:"shut_read"`  // receives no more: own shutdown(SHUT_RD) or the peer's SHUT_WR
	ShutWrite bool          `json:"shut_write"` // sends no more
	Reset     bool          `json:"reset"`      // of an orphaned socket: ECONNRESET waits to be read
	PeerCred  UnixCred      `json:"peer_cred"`  // SO_PEERCRED
	Queue     []UnixMessage `json:"queue,omitempty"`
}

// UnixNode is the file that bind(2) made.
type UnixNode struct {
	Path string `json:"path"` // absolute
	Mode uint32 `json:"mode"` // permission bits
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
}

// UnixCred is struct ucred.
type UnixCred struct {
	PID int    `json:"pid"`
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
}

// UnixMessage is one message that waits to be received: a datagram or record, or a stretch of a stream.
type UnixMessage struct {
	Data []byte `json:"data"`
	From []byte `json:"from,omitempty"` // the sender's address, as UnixSocket.Name
}

// TCPState is a state of RFC 9293, as far as it can be restored.
type TCPState string

const (
	TCPClosed      TCPState = "CLOSED" // not connected, bound or not
	TCPListen      TCPState = "LISTEN"
	TCPEstablished TCPState = "ESTABLISHED"
	TCPCloseWait   TCPState = "CLOSE_WAIT"
	TCPFinWait1    TCPState = "FIN_WAIT1"
	TCPFinWait2    TCPState = "FIN_WAIT2"
	TCPClosing     TCPState = "CLOSING"
	TCPLastAck     TCPState = "LAST_ACK"
)

// TCPSocket is a TCP socket over IPv4 or IPv6.
type TCPSocket struct {
	V6      bool          `json:"v6"` // AF_INET6; addresses may be IPv4-mapped all the same
	State   TCPState      `json:"state"`
	Owner   SocketOwner   `json:"socket_owner"`
	Options SocketOptions `json:"options,omitempty"`

	Local  netip.AddrPort `json:"local"`  // port 0: not bound
	Remote netip.AddrPort `json:"remote"` // of a connection

	Backlog    int            `json:"backlog"`              // of a listening socket
	Connection *TCPConnection `json:"connection,omitempty"` // of all states but CLOSED and LISTEN
	Ended      *TCPEnd        `json:"ended,omitempty"`      // of a closed socket that had a connection
}

// TCPEnd is what is left of a connection that was closed from both sides or reset, while the application still has the socket.
type TCPEnd struct {
	Reset  bool   `json:"reset"`            // an error (ECONNRESET) waits to be read
	Unread []byte `json:"unread,omitempty"` // bytes that the application has not read
}

// TCPConnection is what the kernel knows of a connection, see tcp(7) and net/ipv4/tcp.c under TCP_REPAIR.
type TCPConnection struct {
	// SendSeq and ReceiveSeq are the sequence numbers after the last byte of each queue; FINs are not counted.
	SendSeq    uint32 `json:"send_seq"`
	ReceiveSeq uint32 `json:"receive_seq"`

	SendQueue    []byte `json:"send_queue,omitempty"`    // bytes that the peer has not acknowledged
	Unsent       int    `json:"unsent"`                  // how many of them, at the end, were never sent
	ReceiveQueue []byte `json:"receive_queue,omitempty"` // bytes that the application has not read

	ShutWrite   bool `json:"shut_write"`   // the application has sent its FIN, or it stands behind the send queue
	FinReceived bool `json:"fin_received"` // the peer's FIN stands behind the receive queue

	MSS          int    `json:"mss"`           // tcp_sock.rx_opt.mss_clamp: the peer's MSS option, bytes
	WindowScale  bool   `json:"window_scale"`  // negotiated
	SendScale    int    `json:"send_scale"`    // shift of windows that the peer announces
	ReceiveScale int    `json:"receive_scale"` // shift of windows that we announce
	SACK         bool   `json:"sack"`
	Timestamps   bool   `json:"timestamps"`
	Timestamp    uint32 `json:"timestamp"` // our timestamp clock at the checkpoint, see TCP_TIMESTAMP
	Microseconds bool   `json:"usec"`      // the timestamp clock counts µs, not ms (tcp_usec_ts, Linux 6.7)

	// Window is struct tcp_repair_window.
	Window TCPWindow `json:"window"`
}

// TCPWindow is struct tcp_repair_window of include/uapi/linux/tcp.h.
type TCPWindow struct {
	SendWL1       uint32 `json:"snd_wl1"`
	SendWindow    uint32 `json:"snd_wnd"`
	MaxWindow     uint32 `json:"max_window"`
	ReceiveWindow uint32 `json:"rcv_wnd"`
	ReceiveWUP    uint32 `json:"rcv_wup"`
}

// UDPSocket is a UDP socket over IPv4 or IPv6.
type UDPSocket struct {
	V6      bool          `json:"v6"`
	Owner   SocketOwner   `json:"socket_owner"`
	Options SocketOptions `json:"options,omitempty"`

	Local  netip.AddrPort `json:"local"`  // port 0: not bound
	Remote netip.AddrPort `json:"remote"` // port 0: not connected

	ShutRead  bool             `json:"shut_read"`
	ShutWrite bool             `json:"shut_write"`
	Groups    []MulticastGroup `json:"groups,omitempty"` // that it is a member of
	Queue     []Datagram       `json:"queue,omitempty"`
}

// MulticastGroup is a membership without source filters.
type MulticastGroup struct {
	Interface string     `json:"interface"`
	Group     netip.Addr `json:"group"`
}

// Datagram is a received datagram that waits to be read.
type Datagram struct {
	From netip.AddrPort `json:"from"`
	To   netip.AddrPort `json:"to"` // the address it was sent to
	Data []byte         `json:"data"`
}
