package object

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"

	"github.com/kup-project/kup/internal/kernel"
)

// Sizes of include/uapi/linux/inet_diag.h: struct inet_diag_req_v2 and struct inet_diag_msg, and where the latter has the inode.
const (
	sizeofInetDiagReq = 56
	sizeofInetDiagMsg = 72
	inodeInetDiagMsg  = 68
)

// listenDiagReq asks for all listening TCP sockets over IPv6.
type listenDiagReq struct{}

func (listenDiagReq) Len() int { return sizeofInetDiagReq }

func (listenDiagReq) Serialize() []byte {
	b := make([]byte, sizeofInetDiagReq)
	b[0], b[1] = kernel.AFInet6, kernel.IPProtoTCP
	binary.NativeEndian.PutUint32(b[4:], 1<<kernel.TCPStateListen)
	return b
}

// listenerOnlyIPv6 asks sock_diag(7) for IPV6_V6ONLY of a listening socket over IPv6. An MPTCP socket listens by way of a TCP socket, which
// has its inode number (net/mptcp/subflow.c, mptcp_subflow_create_socket).
func listenerOnlyIPv6(inode uint64) (only, found bool, err error) {
	const dump = 0x300 // NLM_F_DUMP
	request := nl.NewNetlinkRequest(sockDiagByFamily, dump)
	request.AddData(listenDiagReq{})
	messages, err := request.Execute(netlinkSockDiag, sockDiagByFamily)
	// An interrupted dump misses somebody else's socket that came or went meanwhile.
	if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) {
		return false, false, fmt.Errorf("sock_diag of TCP sockets: %w; load the kernel module tcp_diag (CONFIG_INET_TCP_DIAG)", err)
	}
	for _, m := range messages {
		if len(m) < sizeofInetDiagMsg || uint64(binary.NativeEndian.Uint32(m[inodeInetDiagMsg:])) != inode {
			continue
		}
		attributes, err := nl.ParseRouteAttr(m[sizeofInetDiagMsg:])
		if err != nil {
			return false, false, fmt.Errorf("sock_diag of TCP sockets: %w", err)
		}
		for _, a := range attributes {
			if a.Attr.Type == netlink.INET_DIAG_SKV6ONLY && len(a.Value) >= 1 {
				return a.Value[0] != 0, true, nil
			}
		}
	}
	return false, false, nil
}
