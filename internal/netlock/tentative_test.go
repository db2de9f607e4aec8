package netlock

import (
	"bufio"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/kernel"
)

// TestTentativeLockDiesWithItsMaker kills the process that made a lock, before and after it was kept.
func TestTentativeLockDiesWithItsMaker(t *testing.T) {
	const env = "KUP_TEST_TENTATIVE"
	if how := os.Getenv(env); how != "" {
		lock, err := LockTentatively("test", []Endpoint{{Protocol: kernel.IPProtoTCP, Local: netip.MustParseAddrPort("127.0.0.1:7001")}})
		check(t, err)
		if how == "kept" {
			check(t, lock.Keep())
		}
		os.Stdout.WriteString("locked\n")
		time.Sleep(time.Hour)
	}
	if !inNamespace(t) {
		return
	}
	for _, how := range []string{"tentative", "kept"} {
		maker := exec.Command(os.Args[0], "-test.run=^TestTentativeLockDiesWithItsMaker$")
		maker.Env = append(os.Environ(), env+"="+how)
		out, err := maker.StdoutPipe()
		check(t, err)
		check(t, maker.Start())
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
			t.Fatalf("the maker said %q, %v", line, err)
		}
		if exists, err := Exists("test"); err != nil || !exists {
			t.Errorf("%s: locked: %v, %v", how, exists, err)
		}
		check(t, maker.Process.Kill())
		maker.Wait()
		want := how == "kept"
		exists := !want
		// What the will does is done when its process is; it has no other sign.
		for deadline := time.Now().Add(5 * time.Second); exists != want && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			exists, err = Exists("test")
			check(t, err)
		}
		if exists != want {
			t.Errorf("%s: after death, locked: %v", how, exists)
		}
		check(t, Unlock("test"))
	}
}
