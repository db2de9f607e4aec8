package netlock

import (
	"encoding/binary"
	"errors"

	"github.com/kup-project/kup/internal/kernel"
)

// Tentative is a lock that goes away if kup dies, because the application it locks still lives. Keep makes it last.
type Tentative struct {
	will   *kernel.Will
	socket int
}

// LockTentatively is Lock for an application that is about to be ended.
func LockTentatively(name string, endpoints []Endpoint) (*Tentative, error) {
	return tentatively(name, func() error { return Lock(name, endpoints) })
}

// tentatively calls lock when it is made sure that kup's death takes the lock back.
func tentatively(name string, lock func() error) (*Tentative, error) {
	will, err := kernel.NewWill(1)
	if err != nil {
		return nil, err
	}
	t := &Tentative{will: will, socket: -1}
	if t.socket, err = kernel.NetfilterSocket(); err != nil {
		return nil, errors.Join(unavailable("lock "+name, err), t.Keep())
	}
	if err := will.Send(0, t.socket, deletion(table(name).Name)); err != nil {
		return nil, errors.Join(err, t.Keep())
	}
	if err := lock(); err != nil {
		return nil, errors.Join(err, t.Keep())
	}
	return t, nil
}

// Keep makes the lock last beyond kup's end. It is called just before the application is ended, or after Unlock.
func (t *Tentative) Keep() error {
	t.will.RevokeAll() // the quickest way
	err := t.will.Close()
	if t.socket >= 0 {
		kernel.Close(t.socket)
	}
	return err
}

// Messages of include/uapi/linux/netfilter/nfnetlink.h and nf_tables.h.
const (
	batchBegin   = 0x10
	batchEnd     = 0x11
	subsystem    = 10 // NFNL_SUBSYS_NFTABLES
	deleteTable  = subsystem<<8 | 2
	flagRequest  = 1 // NLM_F_REQUEST
	familyINet   = 1 // NFPROTO_INET
	nameOfTable  = 1 // NFTA_TABLE_NAME
	headerSize   = 16
	genericSize  = 4
	attributeTop = 4
)

// deletion is the transaction that deletes a table, as it goes through the socket.
func deletion(name string) []byte {
	attribute := make([]byte, attributeTop, attributeTop+len(name)+4)
	attribute = append(attribute, name...)
	attribute = append(attribute, 0)
	binary.NativeEndian.PutUint16(attribute, uint16(len(attribute)))
	binary.NativeEndian.PutUint16(attribute[2:], nameOfTable)
	for len(attribute)%4 != 0 {
		attribute = append(attribute, 0)
	}
	b := message(batchBegin, 0, subsystem, nil)
	b = append(b, message(deleteTable, familyINet, 0, attribute)...)
	return append(b, message(batchEnd, 0, subsystem, nil)...)
}

// message is struct nlmsghdr with struct nfgenmsg and what follows.
func message(kind uint16, family byte, resource uint16, body []byte) []byte {
	b := make([]byte, headerSize+genericSize)
	binary.NativeEndian.PutUint32(b, uint32(len(b)+len(body)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], flagRequest)
	b[headerSize] = family
	binary.BigEndian.PutUint16(b[headerSize+2:], resource)
	return append(b, body...)
}
