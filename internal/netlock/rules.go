package netlock

import (
	"encoding/binary"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/object"
)

// Registers of include/uapi/linux/netfilter/nf_tables.h: NFT_REG_1 is the 16 bytes of NFT_REG32_00 and its followers.
const (
	register   = 1
	register32 = 8
)

// chains makes the chains of a table: behind address translation, where packets have the addresses that sockets know.
func chains(c *nftables.Conn, t *nftables.Table) (in, out *nftables.Chain) {
	chain := func(name string, hook *nftables.ChainHook) *nftables.Chain {
		return c.AddChain(&nftables.Chain{
			Name: name, Table: t, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityFilter,
		})
	}
	return chain("input", nftables.ChainHookInput), chain("output", nftables.ChainHookOutput)
}

// addRules makes one set and two rules for each shape that occurs.
func addRules(c *nftables.Conn, t *nftables.Table, in, out *nftables.Chain, endpoints []Endpoint) error {
	return eachSet(c, t, endpoints, func(s shape, set *nftables.Set) {
		c.AddRule(&nftables.Rule{Table: t, Chain: in, Exprs: s.drop(set, true)})
		c.AddRule(&nftables.Rule{Table: t, Chain: out, Exprs: s.drop(set, false)})
	})
}

// eachSet makes one set for each shape that occurs, and lets add make its rules.
func eachSet(c *nftables.Conn, t *nftables.Table, endpoints []Endpoint, add func(shape, *nftables.Set)) error {
	keys := map[shape]map[string]bool{}
	var order []shape
	for _, e := range endpoints {
		s := e.shape()
		if keys[s] == nil {
			keys[s] = map[string]bool{}
			order = append(order, s)
		}
		keys[s][string(e.key())] = true
	}
	for _, s := range order {
		set, err := addSet(c, t, s, keys[s])
		if err != nil {
			return err
		}
		add(s, set)
	}
	return nil
}

func addSet(c *nftables.Conn, t *nftables.Table, s shape, keys map[string]bool) (*nftables.Set, error) {
	set := &nftables.Set{Table: t, Name: s.name(), KeyType: s.keyType()}
	elements := make([]nftables.SetElement, 0, len(keys))
	for key := range keys {
		if s.anywhere {
			key = key[:2] // a single field is not padded
		}
		elements = append(elements, nftables.SetElement{Key: []byte(key)})
	}
	if err := c.AddSet(set, nil); err != nil {
		return nil, err
	}
	// The list of elements is one attribute, whose length has 16 bits.
	for part := range slices.Chunk(elements, 500) {
		if err := c.SetAddElements(set, part); err != nil {
			return nil, err
		}
	}
	return set, nil
}

func (s shape) keyType() nftables.SetDatatype {
	if s.anywhere {
		return nftables.TypeInetService
	}
	addr := nftables.TypeIPAddr
	if s.v6 {
		addr = nftables.TypeIP6Addr
	}
	if s.remote {
		return nftables.MustConcatSetType(addr, nftables.TypeInetService, addr, nftables.TypeInetService)
	}
	return nftables.MustConcatSetType(addr, nftables.TypeInetService)
}

// drop is the rule that drops what the set names: packets to the local address, or from it.
func (s shape) drop(set *nftables.Set, input bool) []expr.Any {
	exprs := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: register},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: binaryutil.NativeEndian.PutUint32(object.InjectedMark)},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{s.protocol}},
	}
	// Where addresses are in the headers: RFC 791, RFC 8200.
	source, destination, size, family := uint32(12), uint32(16), uint32(4), byte(kernel.NFProtoIPv4)
	if s.v6 {
		source, destination, size, family = 8, 24, 16, kernel.NFProtoIPv6
	}
	localAddr, localPort, remoteAddr, remotePort := source, uint32(0), destination, uint32(2)
	if input {
		localAddr, localPort, remoteAddr, remotePort = destination, 2, source, 0
	}
	next := uint32(register32)
	load := func(base expr.PayloadBase, offset, size uint32) {
		exprs = append(exprs, &expr.Payload{DestRegister: next, Base: base, Offset: offset, Len: size})
		next += (size + 3) / 4
	}
	if !s.anywhere {
		exprs = append(exprs,
			&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register},
			&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{family}})
		load(expr.PayloadBaseNetworkHeader, localAddr, size)
	}
	load(expr.PayloadBaseTransportHeader, localPort, 2)
	if s.remote {
		load(expr.PayloadBaseNetworkHeader, remoteAddr, size)
		load(expr.PayloadBaseTransportHeader, remotePort, 2)
	}
	return append(exprs,
		&expr.Lookup{SourceRegister: register, SetName: set.Name, SetID: set.ID},
		&expr.Verdict{Kind: expr.VerdictDrop})
}

// blockAll drops everything in and TCP out, but for the loopback interface and ICMPv6, without which addresses do not come up.
func blockAll(c *nftables.Conn, t *nftables.Table, in, out *nftables.Chain) {
	loopback := binary.NativeEndian.AppendUint16(nil, kernel.ARPHRDLoopback)
	rule := func(chain *nftables.Chain, device expr.MetaKey, op expr.CmpOp, protocol byte) {
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{
			&expr.Meta{Key: device, Register: register},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: loopback},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
			&expr.Cmp{Op: op, Register: register, Data: []byte{protocol}},
			&expr.Verdict{Kind: expr.VerdictDrop},
		}})
	}
	rule(in, expr.MetaKeyIIFTYPE, expr.CmpOpNeq, kernel.IPProtoICMPv6)
	rule(out, expr.MetaKeyOIFTYPE, expr.CmpOpEq, kernel.IPProtoTCP)
}
