package object

import (
	"net"
	"os"
	"testing"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/refuse"
)

func TestSettledFindsFilesOfProcesses(t *testing.T) {
	own := []int{os.Getpid()}
	if err := Settled(own); err != nil {
		t.Error(err)
	}
	for path, wanted := range map[string]bool{"/proc/self/maps": true, "/proc/self/task": true, "/proc/1/stat": true, "/proc/stat": false, "/proc": false, "/dev/null": false} {
		open := sure(os.Open(path))
		if err := Settled(own); refuse.Passing(err) != wanted || !wanted && err != nil {
			t.Errorf("%s: got %v", path, err)
		}
		open.Close()
	}
}

func TestSettledFindsConnectionsThatWait(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	own := []int{os.Getpid()}
	a := newTCPApp(t, "tcp4", "127.0.0.1:7001")
	multipath := listenMPTCP(t, "127.0.0.1:7002", nil)
	if err := Settled(own); err != nil {
		t.Error(err)
	}
	for address, listener := range map[string]int{"127.0.0.1:7001": a.listener, "127.0.0.1:7002": multipath} {
		waiting := sure(net.Dial("tcp", address))
		if err := Settled(own); !refuse.Passing(err) {
			t.Errorf("%s: got %v", address, err)
		}
		kernel.Close(sure(kernel.Accept(listener)))
		waiting.Close()
	}
	if err := Settled(own); err != nil {
		t.Error(err)
	}
}
