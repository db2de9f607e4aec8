package kernel

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Features of the network. Asking may make the kernel load the module, as using them would.
var (
	FeatureTCPRepair = &Feature{
		Name: "TCP_REPAIR", Use: "established TCP connections", Since: "3.5", Needs: "CAP_NET_ADMIN",
		How:   "set it on a socket of ours",
		probe: probeTCPRepair,
	}
	FeatureNFTables = &Feature{
		Name: "nf_tables", Use: "keeping peers' packets away while TCP connections are being restored", Since: "3.13", Option: "CONFIG_NF_TABLES",
		Needs: "CAP_NET_ADMIN", How: "ask for the generation of the rule set",
		probe: func() error {
			// NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN; struct nfgenmsg is all 0.
			return askNetlink(unix.NETLINK_NETFILTER, 10<<8|16, unix.NLM_F_REQUEST, make([]byte, 4))
		},
	}
	FeatureUnixDiag = &Feature{
		Name: "unix_diag", Use: "who is connected to whom by unix sockets", Since: "3.3", Option: "CONFIG_UNIX_DIAG",
		How:   "ask for the unix sockets in none of all states",
		probe: func() error { return askDiag(unix.AF_UNIX, 0, 24) },
	}
	FeatureTCPDiag = &Feature{
		Name: "tcp_diag", Use: "TCP sockets", Since: "3.3", Option: "CONFIG_INET_TCP_DIAG",
		How:   "ask for the TCP sockets in none of all states",
		probe: func() error { return askDiag(unix.AF_INET, unix.IPPROTO_TCP, 56) },
	}
	FeatureUDPDiag = &Feature{
		Name: "udp_diag", Use: "UDP sockets", Since: "3.3", Option: "CONFIG_INET_UDP_DIAG",
		How:   "ask for the UDP sockets in none of all states",
		probe: func() error { return askDiag(unix.AF_INET, unix.IPPROTO_UDP, 56) },
	}
)

func probeTCPRepair() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1)
}

// askDiag sends a request of sock_diag(7), size bytes that begin with family and protocol.
func askDiag(family, protocol byte, size int) error {
	request := make([]byte, size)
	request[0], request[1] = family, protocol
	return askNetlink(unix.NETLINK_SOCK_DIAG, unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, request)
}

// askNetlink sends a request and returns the error number in the first answer, see netlink(7).
func askNetlink(protocol int, kind, flags uint16, payload []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		return err
	}
	request := append(make([]byte, unix.SizeofNlMsghdr), payload...)
	header := (*unix.NlMsghdr)(unsafe.Pointer(&request[0]))
	header.Len, header.Type, header.Flags = uint32(len(request)), kind, flags
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 8192)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return fmt.Errorf("no answer by netlink: %w", err)
	}
	if n < unix.SizeofNlMsghdr+4 {
		return fmt.Errorf("an answer of %d bytes by netlink", n)
	}
	switch binary.NativeEndian.Uint16(answer[4:]) {
	case unix.NLMSG_ERROR, unix.NLMSG_DONE:
		if code := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); code != 0 {
			return Errno(-code)
		}
	}
	return nil
}
