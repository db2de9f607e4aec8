package netlock

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// LockRequests drops requests for new connections to listening sockets of an application that is frozen: nobody would accept them. Clients
// repeat their requests. Connections that exist go on. The lock goes away if kup dies; else Unlock, then Keep.
func LockRequests(name string, endpoints []Endpoint) (*Tentative, error) {
	return tentatively(name, func() error {
		if err := Unlock(name); err != nil {
			return err
		}
		return change("lock "+name, func(c *nftables.Conn) error {
			t := c.CreateTable(table(name))
			in, _ := chains(c, t)
			return eachSet(c, t, endpoints, func(s shape, set *nftables.Set) {
				c.AddRule(&nftables.Rule{Table: t, Chain: in, Exprs: append(request(), s.drop(set, true)...)})
			})
		})
	})
}

// request matches segments with SYN and without ACK. Of packets that are no TCP the rest of the rule takes care.
func request() []expr.Any {
	const flags, syn, ack = 13, 0x02, 0x10 // RFC 9293, section 3.1
	return []expr.Any{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: flags, Len: 1},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 1, Mask: []byte{syn | ack}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{syn}},
	}
}
