package netlock

import (
	"net/netip"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// Endpoint is what a socket receives packets for: one connection, or, if Remote has no port, everything that comes to a local
// address. A Local without address stands for all addresses.
type Endpoint struct {
	Protocol      uint8 // IPPROTO_TCP or IPPROTO_UDP
	Local, Remote netip.AddrPort
}

// Endpoints lists what the sockets of an image receive packets for.
func Endpoints(s *image.State) []Endpoint {
	var all []Endpoint
	for i := range s.Files {
		f := &s.Files[i]
		switch {
		case f.TCP != nil && f.TCP.Connection != nil:
			all = append(all, Endpoint{kernel.IPProtoTCP, f.TCP.Local, f.TCP.Remote})
		case f.TCP != nil && f.TCP.State == image.TCPListen:
			all = append(all, Endpoint{Protocol: kernel.IPProtoTCP, Local: f.TCP.Local})
		case f.MPTCP != nil && f.MPTCP.State == image.TCPListen:
			all = append(all, Endpoint{Protocol: kernel.IPProtoTCP, Local: f.MPTCP.Local})
		case f.UDP != nil && f.UDP.Local.Port() != 0:
			all = append(all, Endpoint{kernel.IPProtoUDP, f.UDP.Local, f.UDP.Remote})
		}
	}
	return all
}

// shape says which fields of a packet are compared.
type shape struct {
	protocol uint8
	v6       bool
	remote   bool // local and remote address and port, else local only
	anywhere bool // the local port only, of any family
}

func (s shape) name() string {
	name := "udp"
	if s.protocol == kernel.IPProtoTCP {
		name = "tcp"
	}
	switch {
	case s.anywhere:
		return name + "_ports"
	case s.remote:
		name += "_connections"
	default:
		name += "_addresses"
	}
	if s.v6 {
		return name + "6"
	}
	return name + "4"
}

// shape and key of an endpoint. In a set's key every field is padded to 4 bytes.
func (e Endpoint) shape() shape {
	local := e.Local.Addr().Unmap()
	if !local.IsValid() || local.IsUnspecified() {
		return shape{protocol: e.Protocol, anywhere: true}
	}
	return shape{protocol: e.Protocol, v6: local.Is6(), remote: e.Remote.Port() != 0}
}

func (e Endpoint) key() []byte {
	var key []byte
	s := e.shape()
	if !s.anywhere {
		key = e.Local.Addr().Unmap().AsSlice()
	}
	key = append(key, byte(e.Local.Port()>>8), byte(e.Local.Port()), 0, 0)
	if s.remote {
		key = append(key, e.Remote.Addr().Unmap().AsSlice()...)
		key = append(key, byte(e.Remote.Port()>>8), byte(e.Remote.Port()), 0, 0)
	}
	return key
}
