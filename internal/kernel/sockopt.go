package kernel

import "golang.org/x/sys/unix"

// Levels of socket options.
const (
	SolSocket = unix.SOL_SOCKET
	SolIP     = unix.SOL_IP
	SolIPv6   = unix.SOL_IPV6
	SolTCP    = unix.SOL_TCP
	SolUDP    = unix.SOL_UDP
)

// Options that are handled one by one; the table of package object names the others. See socket(7), tcp(7), ip(7).
const (
	SoDomain       = unix.SO_DOMAIN
	SoType         = unix.SO_TYPE
	SoProtocol     = unix.SO_PROTOCOL
	SoAcceptConn   = unix.SO_ACCEPTCONN
	SoError        = unix.SO_ERROR
	SoReuseAddr    = unix.SO_REUSEADDR
	SoReusePort    = unix.SO_REUSEPORT
	SoSndBuf       = unix.SO_SNDBUF
	SoRcvBuf       = unix.SO_RCVBUF
	SoSndBufForce  = unix.SO_SNDBUFFORCE
	SoRcvBufForce  = unix.SO_RCVBUFFORCE
	SoBufLock      = 72 // SO_BUF_LOCK, since v5.14: which of the sizes the application has chosen
	SoPeekOff      = unix.SO_PEEK_OFF
	SoPeerCred     = unix.SO_PEERCRED
	SoPassCred     = unix.SO_PASSCRED
	SoMark         = unix.SO_MARK
	SoLinger       = unix.SO_LINGER
	SoLockFilter   = unix.SO_LOCK_FILTER
	SoDetachFilter = unix.SO_DETACH_FILTER
	SoZeroCopy     = unix.SO_ZEROCOPY
	SoBindToDevice = unix.SO_BINDTODEVICE

	TCPInfo          = unix.TCP_INFO
	TCPMaxSeg        = unix.TCP_MAXSEG
	TCPULP           = unix.TCP_ULP
	TCPRepair        = unix.TCP_REPAIR
	TCPRepairQueue   = unix.TCP_REPAIR_QUEUE
	TCPQueueSeq      = unix.TCP_QUEUE_SEQ
	TCPRepairOptions = unix.TCP_REPAIR_OPTIONS
	TCPRepairWindow  = unix.TCP_REPAIR_WINDOW
	TCPTimestamp     = unix.TCP_TIMESTAMP
	TCPWindowClamp   = unix.TCP_WINDOW_CLAMP
	TCPMD5Sig        = unix.TCP_MD5SIG
	TCPAOInfo        = 40 // TCP_AO_INFO, since v6.7

	IPHdrIncl  = unix.IP_HDRINCL
	IPv6V6Only = unix.IPV6_V6ONLY
	UDPCork    = unix.UDP_CORK
	UDPEncap   = unix.UDP_ENCAP

	IPPktInfo          = unix.IP_PKTINFO
	IPv6PktInfoMessage = unix.IPV6_PKTINFO // the control message that IPV6_RECVPKTINFO asks for
	IPv6PktInfo        = unix.IPV6_RECVPKTINFO
)

// Values of TCP_REPAIR and TCP_REPAIR_QUEUE, include/uapi/linux/tcp.h.
const (
	TCPRepairOn        = 1
	TCPRepairOff       = 0
	TCPRepairOffSilent = -1 // without a window probe

	TCPNoQueue      = 0
	TCPReceiveQueue = 1
	TCPSendQueue    = 2
)

// States of a TCP socket in TCP_INFO, include/net/tcp_states.h.
const (
	TCPStateEstablished = 1
	TCPStateSynSent     = 2
	TCPStateSynRecv     = 3
	TCPStateFinWait1    = 4
	TCPStateFinWait2    = 5
	TCPStateTimeWait    = 6
	TCPStateClose       = 7
	TCPStateCloseWait   = 8
	TCPStateLastAck     = 9
	TCPStateListen      = 10
	TCPStateClosing     = 11
)
