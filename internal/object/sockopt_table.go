package object

import "github.com/kup-project/kup/internal/kernel"

// optionKind says for which sockets an option is looked at.
type optionKind uint8

const (
	onUnix optionKind = 1 << iota
	onTCP             // TCP in any state
	onIdle            // TCP that is not connected
	onUDP
	onInet6 // together with onTCP or onUDP: of the family AF_INET6
	onUDP6  // together with onUDP: likewise

	onInet = onTCP | onUDP
	onAll  = onUnix | onInet
)

// optionForm is how an option's value looks: an int, a string, or a structure of so many bytes.
type optionForm int

const (
	formInt    optionForm = 0
	formString optionForm = -1
)

// optionPhase is when an option is set.
type optionPhase uint8

const (
	beforeLife  optionPhase = iota // before bind(2) and connect(2), which it influences
	afterBirth                     // once the socket is in its state
	specialCare                    // by the code of its protocol
)

type optionEntry struct {
	name   string
	level  int
	option int
	form   optionForm
	kinds  optionKind
	phase  optionPhase
	advice bool // about speed only: a kernel without it does as well
	// dependent options change by themselves, with other options or in the course of a connection.
	dependent bool
}

// optionTable has the options in the order in which they are set. Numbers are those of include/uapi/asm-generic/socket.h,
// linux/in.h, linux/in6.h, linux/tcp.h and linux/udp.h.
var optionTable = []optionEntry{
	{name: "IPV6_V6ONLY", level: kernel.SolIPv6, option: 26, kinds: onInet6},
	{name: "IP_FREEBIND", level: kernel.SolIP, option: 15, kinds: onInet},
	{name: "IPV6_FREEBIND", level: kernel.SolIPv6, option: 78, kinds: onInet6},
	{name: "IP_TRANSPARENT", level: kernel.SolIP, option: 19, kinds: onInet},
	{name: "IPV6_TRANSPARENT", level: kernel.SolIPv6, option: 75, kinds: onInet6},
	{name: "IP_BIND_ADDRESS_NO_PORT", level: kernel.SolIP, option: 24, kinds: onInet},
	{name: "IP_LOCAL_PORT_RANGE", level: kernel.SolIP, option: 51, kinds: onInet},
	{name: "SO_BINDTODEVICE", level: kernel.SolSocket, option: 25, form: formString, kinds: onInet},
	{name: "SO_MARK", level: kernel.SolSocket, option: 36, kinds: onInet},
	{name: "SO_REUSEPORT", level: kernel.SolSocket, option: 15, kinds: onInet},
	{name: "TCP_MAXSEG", level: kernel.SolTCP, option: 2, kinds: onIdle},
	{name: "TCP_FASTOPEN", level: kernel.SolTCP, option: 23, kinds: onIdle},
	{name: "TCP_FASTOPEN_CONNECT", level: kernel.SolTCP, option: 30, kinds: onIdle},
	{name: "TCP_FASTOPEN_NO_COOKIE", level: kernel.SolTCP, option: 34, kinds: onIdle},

	// Setting TCP_REPAIR changes it.
	{name: "SO_REUSEADDR", level: kernel.SolSocket, option: 2, kinds: onAll, phase: specialCare},

	{name: "SO_DEBUG", level: kernel.SolSocket, option: 1, kinds: onAll, phase: afterBirth},
	{name: "SO_DONTROUTE", level: kernel.SolSocket, option: 5, kinds: onAll, phase: afterBirth},
	{name: "SO_BROADCAST", level: kernel.SolSocket, option: 6, kinds: onAll, phase: afterBirth},
	{name: "SO_KEEPALIVE", level: kernel.SolSocket, option: 9, kinds: onAll, phase: afterBirth},
	{name: "SO_OOBINLINE", level: kernel.SolSocket, option: 10, kinds: onAll, phase: afterBirth},
	{name: "SO_NO_CHECK", level: kernel.SolSocket, option: 11, kinds: onUDP, phase: afterBirth},
	{name: "SO_LINGER", level: kernel.SolSocket, option: 13, form: 8, kinds: onAll, phase: afterBirth},
	{name: "SO_PASSCRED", level: kernel.SolSocket, option: 16, kinds: onUnix, phase: specialCare},
	{name: "SO_RCVLOWAT", level: kernel.SolSocket, option: 18, kinds: onAll, phase: afterBirth},
	{name: "SO_RCVTIMEO", level: kernel.SolSocket, option: 20, form: 16, kinds: onAll, phase: afterBirth},
	{name: "SO_SNDTIMEO", level: kernel.SolSocket, option: 21, form: 16, kinds: onAll, phase: afterBirth},
	{name: "SO_TIMESTAMP", level: kernel.SolSocket, option: 29, kinds: onAll, phase: afterBirth, dependent: true},
	{name: "SO_TIMESTAMPNS", level: kernel.SolSocket, option: 35, kinds: onAll, phase: afterBirth, dependent: true},
	{name: "SO_TIMESTAMP_NEW", level: kernel.SolSocket, option: 63, kinds: onAll, phase: afterBirth, dependent: true},
	{name: "SO_TIMESTAMPNS_NEW", level: kernel.SolSocket, option: 64, kinds: onAll, phase: afterBirth, dependent: true},
	{name: "SO_TIMESTAMPING", level: kernel.SolSocket, option: 37, kinds: onInet, phase: afterBirth},
	{name: "SO_RXQ_OVFL", level: kernel.SolSocket, option: 40, kinds: onAll, phase: afterBirth},
	{name: "SO_SELECT_ERR_QUEUE", level: kernel.SolSocket, option: 45, kinds: onAll, phase: afterBirth},
	{name: "SO_BUSY_POLL", level: kernel.SolSocket, option: 46, kinds: onInet, phase: afterBirth},
	{name: "SO_PREFER_BUSY_POLL", level: kernel.SolSocket, option: 69, kinds: onInet, phase: afterBirth},
	{name: "SO_BUSY_POLL_BUDGET", level: kernel.SolSocket, option: 70, kinds: onInet, phase: afterBirth},
	{name: "SO_MAX_PACING_RATE", level: kernel.SolSocket, option: 47, form: 8, kinds: onInet, phase: afterBirth},
	{name: "SO_ZEROCOPY", level: kernel.SolSocket, option: 60, kinds: onInet, phase: afterBirth},
	{name: "SO_TXTIME", level: kernel.SolSocket, option: 61, form: 8, kinds: onUDP, phase: afterBirth},
	{name: "SO_RCVMARK", level: kernel.SolSocket, option: 75, kinds: onInet, phase: afterBirth},
	{name: "SO_PASSPIDFD", level: kernel.SolSocket, option: 76, kinds: onUnix, phase: specialCare},

	{name: "IP_TOS", level: kernel.SolIP, option: 1, kinds: onInet, phase: afterBirth},
	{name: "IP_TTL", level: kernel.SolIP, option: 2, kinds: onInet, phase: afterBirth},
	{name: "IP_RECVOPTS", level: kernel.SolIP, option: 6, kinds: onInet, phase: afterBirth},
	{name: "IP_RETOPTS", level: kernel.SolIP, option: 7, kinds: onInet, phase: afterBirth},
	{name: "IP_PKTINFO", level: kernel.SolIP, option: 8, kinds: onInet, phase: afterBirth},
	{name: "IP_MTU_DISCOVER", level: kernel.SolIP, option: 10, kinds: onInet, phase: afterBirth},
	{name: "IP_RECVERR", level: kernel.SolIP, option: 11, kinds: onInet, phase: afterBirth},
	{name: "IP_RECVTTL", level: kernel.SolIP, option: 12, kinds: onInet, phase: afterBirth},
	{name: "IP_RECVTOS", level: kernel.SolIP, option: 13, kinds: onInet, phase: afterBirth},
	{name: "IP_RECVORIGDSTADDR", level: kernel.SolIP, option: 20, kinds: onInet, phase: afterBirth},
	{name: "IP_MINTTL", level: kernel.SolIP, option: 21, kinds: onInet, phase: afterBirth},
	{name: "IP_CHECKSUM", level: kernel.SolIP, option: 23, kinds: onInet, phase: afterBirth},
	{name: "IP_RECVFRAGSIZE", level: kernel.SolIP, option: 25, kinds: onUDP, phase: afterBirth}, // TCP does not take it
	{name: "IP_MULTICAST_TTL", level: kernel.SolIP, option: 33, kinds: onUDP, phase: afterBirth},
	{name: "IP_MULTICAST_LOOP", level: kernel.SolIP, option: 34, kinds: onUDP, phase: afterBirth},
	{name: "IP_MULTICAST_ALL", level: kernel.SolIP, option: 49, kinds: onUDP, phase: afterBirth},

	{name: "IPV6_UNICAST_HOPS", level: kernel.SolIPv6, option: 16, kinds: onInet6, phase: afterBirth},
	{name: "IPV6_MULTICAST_HOPS", level: kernel.SolIPv6, option: 18, kinds: onUDP6, phase: afterBirth},
	{name: "IPV6_MULTICAST_LOOP", level: kernel.SolIPv6, option: 19, kinds: onUDP6, phase: afterBirth},
	{name: "IPV6_MTU_DISCOVER", level: kernel.SolIPv6, option: 23, kinds: onInet6, phase: afterBirth},
	{name: "IPV6_RECVERR", level: kernel.SolIPv6, option: 25, kinds: onInet6, phase: afterBirth},
	{name: "IPV6_MULTICAST_ALL", level: kernel.SolIPv6, option: 29, kinds: onUDP6, phase: afterBirth},
	{name: "IPV6_RECVPKTINFO", level: kernel.SolIPv6, option: 49, kinds: onInet6, phase: afterBirth},
	{name: "IPV6_RECVHOPLIMIT", level: kernel.SolIPv6, option: 51, kinds: onInet6, phase: afterBirth},
	{name: "IPV6_RECVHOPOPTS", level: kernel.SolIPv6, option: 53, kinds: onInet6, phase: afterBirth},
	{name: "IPV6_RECVRTHDR", level: kernel.SolIPv6, option: 56, kinds: onInet6, phase: afterBirth},
	{name: "IPV6_RECVDSTOPTS", level: kernel.SolIPv6, option: 58, kinds: onInet6, phase: afterBirth},
	{name: "IPV6_RECVPATHMTU", level: kernel.SolIPv6, option: 60, kinds: onInet6, phase: afterBirth},
	{name: "IPV6_DONTFRAG", level: kernel.SolIPv6, option: 62, kinds: onInet6, phase: afterBirth},
	{name: "IPV6_RECVTCLASS", level: kernel.SolIPv6, option: 66, kinds: onInet6, phase: afterBirth},
	{name: "IPV6_TCLASS", level: kernel.SolIPv6, option: 67, kinds: onInet6, phase: afterBirth},
	{name: "IPV6_AUTOFLOWLABEL", level: kernel.SolIPv6, option: 70, kinds: onInet6, phase: afterBirth},
	{name: "IPV6_ADDR_PREFERENCES", level: kernel.SolIPv6, option: 72, kinds: onInet6, phase: afterBirth},
	{name: "IPV6_MINHOPCOUNT", level: kernel.SolIPv6, option: 73, kinds: onInet6, phase: afterBirth},
	{name: "IPV6_RECVORIGDSTADDR", level: kernel.SolIPv6, option: 74, kinds: onInet6, phase: afterBirth},
	{name: "IPV6_RECVFRAGSIZE", level: kernel.SolIPv6, option: 77, kinds: onInet6, phase: afterBirth},

	// IP_TOS sets the priority too: net/ipv4/ip_sockglue.c, __ip_sock_set_tos.
	{name: "SO_PRIORITY", level: kernel.SolSocket, option: 12, kinds: onAll, phase: afterBirth, dependent: true},

	{name: "TCP_NODELAY", level: kernel.SolTCP, option: 1, kinds: onTCP, phase: afterBirth},
	{name: "TCP_CORK", level: kernel.SolTCP, option: 3, kinds: onTCP, phase: afterBirth},
	{name: "TCP_KEEPIDLE", level: kernel.SolTCP, option: 4, kinds: onTCP, phase: afterBirth},
	{name: "TCP_KEEPINTVL", level: kernel.SolTCP, option: 5, kinds: onTCP, phase: afterBirth},
	{name: "TCP_KEEPCNT", level: kernel.SolTCP, option: 6, kinds: onTCP, phase: afterBirth},
	{name: "TCP_SYNCNT", level: kernel.SolTCP, option: 7, kinds: onTCP, phase: afterBirth},
	{name: "TCP_LINGER2", level: kernel.SolTCP, option: 8, kinds: onTCP, phase: afterBirth},
	{name: "TCP_DEFER_ACCEPT", level: kernel.SolTCP, option: 9, kinds: onTCP, phase: afterBirth},
	{name: "TCP_WINDOW_CLAMP", level: kernel.SolTCP, option: 10, kinds: onTCP, phase: specialCare},
	{name: "TCP_QUICKACK", level: kernel.SolTCP, option: 12, kinds: onTCP, phase: afterBirth, dependent: true},
	{name: "TCP_CONGESTION", level: kernel.SolTCP, option: 13, form: formString, kinds: onTCP, phase: afterBirth, advice: true},
	{name: "TCP_THIN_LINEAR_TIMEOUTS", level: kernel.SolTCP, option: 16, kinds: onTCP, phase: afterBirth},
	{name: "TCP_USER_TIMEOUT", level: kernel.SolTCP, option: 18, kinds: onTCP, phase: afterBirth},
	{name: "TCP_NOTSENT_LOWAT", level: kernel.SolTCP, option: 25, kinds: onTCP, phase: afterBirth},
	{name: "TCP_SAVE_SYN", level: kernel.SolTCP, option: 27, kinds: onTCP, phase: afterBirth},
	{name: "TCP_INQ", level: kernel.SolTCP, option: 36, kinds: onTCP, phase: afterBirth},
	{name: "TCP_TX_DELAY", level: kernel.SolTCP, option: 37, kinds: onTCP, phase: afterBirth},

	{name: "UDP_CORK", level: kernel.SolUDP, option: 1, kinds: onUDP, phase: specialCare},
	{name: "UDP_NO_CHECK6_TX", level: kernel.SolUDP, option: 101, kinds: onUDP, phase: afterBirth},
	{name: "UDP_NO_CHECK6_RX", level: kernel.SolUDP, option: 102, kinds: onUDP, phase: afterBirth},
	{name: "UDP_SEGMENT", level: kernel.SolUDP, option: 103, kinds: onUDP, phase: afterBirth},
	{name: "UDP_GRO", level: kernel.SolUDP, option: 104, kinds: onUDP, phase: afterBirth},

	{name: optSndBuf, level: kernel.SolSocket, option: kernel.SoSndBuf, phase: specialCare},
	{name: optRcvBuf, level: kernel.SolSocket, option: kernel.SoRcvBuf, phase: specialCare},
	{name: optBufLock, level: kernel.SolSocket, option: kernel.SoBufLock, phase: specialCare},
	{name: "SO_PEEK_OFF", level: kernel.SolSocket, option: kernel.SoPeekOff, kinds: onUnix | onUDP, phase: specialCare},
}

var optionByName = func() map[string]*optionEntry {
	names := map[string]*optionEntry{}
	for i := range optionTable {
		names[optionTable[i].name] = &optionTable[i]
	}
	return names
}()
