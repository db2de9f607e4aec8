package object

import (
	"testing"
	"time"

	"github.com/kup-project/kup/internal/kernel"
)

// TestSharedSilenceIsLikeOnesOwn makes connections deaf by one program, and lets them hear again as an application does.
func TestSharedSilenceIsLikeOnesOwn(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	program, err := kernel.DropAll()
	if err != nil {
		t.Skipf("no bpf(2) here: %v", err)
	}
	shared := &heldSockets{program: program}
	for name, silence := range map[string]func(fd int) error{
		"shared": shared.silence, "own": (&heldSockets{}).silence, "instead": (&heldSockets{program: 1 << 20}).silence,
	} {
		t.Run(name, func(t *testing.T) {
			a := newTCPApp(t, "tcp4", "127.0.0.1:7001")
			defer kernel.Close(a.listener)
			defer kernel.Close(a.conn)
			a.check(silence(a.conn))
			sure(a.peer.Write([]byte("x")))
			time.Sleep(20 * time.Millisecond)
			if n := sure(kernel.SocketQueue(a.conn, kernel.SIOCInQ)); n != 0 {
				t.Errorf("%d bytes came to a deaf connection", n)
			}
			a.check(detachFilter(a.conn))
			for deadline := time.Now().Add(5 * time.Second); sure(kernel.SocketQueue(a.conn, kernel.SIOCInQ)) != 1; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("nothing was sent again")
				}
			}
		})
	}
}
