package object

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"

	"github.com/kup-project/kup/internal/kernel"
)

// unixDiag is what sock_diag(7) says of one unix socket.
type unixDiag struct {
	kind     int    // SOCK_STREAM, ...
	state    int    // as those of TCP: established, listening, closed
	peer     uint64 // inode of the socket it is connected to; 0: none, or it is gone
	waiting  int    // of a listening socket: connections to be accepted
	backlog  int    // of a listening socket
	shutdown uint8  // 1: receives no more, 2: sends no more
}

// Request and attributes of include/uapi/linux/unix_diag.h.
const (
	sockDiagByFamily  = 20
	netlinkSockDiag   = 4
	unixShowPeer      = 0x04
	unixShowQueue     = 0x10
	unixDiagPeer      = 2
	unixDiagQueue     = 4
	unixDiagShutdown  = 6
	unixDiagMsgSize   = 16
	sizeofUnixDiagReq = 24
)

// unixDiagReq asks for all unix sockets: struct unix_diag_req.
type unixDiagReq struct{}

func (unixDiagReq) Len() int { return sizeofUnixDiagReq }

func (unixDiagReq) Serialize() []byte {
	b := make([]byte, sizeofUnixDiagReq)
	b[0] = kernel.AFUnix
	binary.NativeEndian.PutUint32(b[4:], ^uint32(0)) // in any state
	binary.NativeEndian.PutUint32(b[12:], unixShowPeer|unixShowQueue)
	return b
}

// listUnix asks for all unix sockets of the network namespace, by inode.
func listUnix() (map[uint64]*unixDiag, error) {
	const dump = 0x300 // NLM_F_DUMP
	request := nl.NewNetlinkRequest(sockDiagByFamily, dump)
	request.AddData(unixDiagReq{})
	messages, err := request.Execute(netlinkSockDiag, sockDiagByFamily)
	// An interrupted dump misses somebody else's socket that came or went meanwhile.
	if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) {
		return nil, fmt.Errorf("sock_diag of unix sockets: %w; load the kernel module unix_diag (CONFIG_UNIX_DIAG)", err)
	}
	sockets := map[uint64]*unixDiag{}
	for _, m := range messages {
		if len(m) < unixDiagMsgSize || m[0] != kernel.AFUnix {
			continue
		}
		attributes, err := nl.ParseRouteAttr(m[unixDiagMsgSize:])
		if err != nil {
			return nil, fmt.Errorf("sock_diag of unix sockets: %w", err)
		}
		s := &unixDiag{kind: int(m[1]), state: int(m[2])}
		for _, a := range attributes {
			s.set(int(a.Attr.Type), a.Value)
		}
		sockets[uint64(binary.NativeEndian.Uint32(m[4:]))] = s
	}
	return sockets, nil
}

func (s *unixDiag) set(attribute int, value []byte) {
	switch {
	case attribute == unixDiagPeer && len(value) >= 4:
		s.peer = uint64(binary.NativeEndian.Uint32(value))
	case attribute == unixDiagQueue && len(value) >= 8:
		s.waiting = int(binary.NativeEndian.Uint32(value))
		s.backlog = int(binary.NativeEndian.Uint32(value[4:]))
	case attribute == unixDiagShutdown && len(value) >= 1:
		s.shutdown = value[0]
	}
}
