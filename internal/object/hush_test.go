package object

import (
	"net"
	"slices"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/refuse"
)

func TestHushLetsAcceptWhatWaits(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	const address = "127.0.0.1:7001"
	a := newTCPApp(t, "tcp4", address)
	waiting := sure(net.Dial("tcp", address))
	defer waiting.Close()
	d := descriptorOf(t, a.listener)
	h := &Hush{}
	for range 2 { // the second time there is nothing new
		a.check(h.over([]captured{{d: d}, {d: descriptorOf(t, a.conn)}}))
	}
	if len(h.deaf) != 1 || len(h.wills) != 1 {
		t.Errorf("%d sockets are deaf, by %d wills", len(h.deaf), len(h.wills))
	}
	if err := tcp.Check(&Capture{}, d); !refuse.Passing(err) {
		t.Errorf("with a connection that waits: got %v", err)
	}
	if late, err := net.DialTimeout("tcp", address, 200*time.Millisecond); err == nil {
		late.Close()
		t.Error("a deaf listener has answered")
	}
	kernel.Close(sure(kernel.Accept(a.listener)))
	if err := tcp.Check(&Capture{}, d); err != nil {
		t.Errorf("when all are accepted: %v", err)
	}
	a.check(h.End())
	sure(net.DialTimeout("tcp", address, 10*time.Second)).Close()
	if left := sure(kernel.Filter(a.listener)); left != nil {
		t.Errorf("left: %v", left)
	}
}

func TestHushLeavesOtherFilters(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	a := newTCPApp(t, "tcp4", "127.0.0.1:7001")
	all := []kernel.Instruction{{Code: 0x06, K: 0xffffffff}} // BPF_RET|BPF_K: lets everything through
	a.check(kernel.AttachFilter(a.listener, all))
	h := &Hush{}
	a.check(h.over([]captured{{d: descriptorOf(t, a.listener)}}))
	a.check(h.End())
	if got := sure(kernel.Filter(a.listener)); !slices.Equal(got, all) {
		t.Errorf("the application's filter has become %v", got)
	}
}

func TestUndeafenedAreThoseOfMPTCP(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	const address = "127.0.0.1:7002"
	c := &Capture{captured: []captured{
		{d: descriptorOf(t, newTCPApp(t, "tcp4", "127.0.0.1:7001").listener)},
		{d: descriptorOf(t, listenMPTCP(t, address, nil))},
		{d: descriptorOf(t, sure(kernel.Socket(kernel.AFInet, kernel.SockStream, protocolMPTCP)))},
	}}
	if got := sure(c.Undeafened()); len(got) != 1 || got[0].String() != address {
		t.Errorf("got %v", got)
	}
}
