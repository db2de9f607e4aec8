package tracee

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/kernel"
)

// TestThreadWithoutProcessorIsNamed freezes a thread that gets no processor, because another one that comes before all ordinary threads has the only one it may use. The
// kernel lets ordinary threads have a little of it each second, so it is tried several times.
func TestThreadWithoutProcessorIsNamed(t *testing.T) {
	path := program(t, "spin")
	pid, hog := start(t, path, "spin"), start(t, path, "spin")
	for _, args := range [][]string{{"taskset", "-cp", "0", strconv.Itoa(pid)}, {"taskset", "-cp", "0", strconv.Itoa(hog)}, {"chrt", "-fp", "1", strconv.Itoa(hog)}} {
		if text, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, text)
		}
	}
	var err error
	for range 5 {
		done := make(chan error)
		go func() { // whose thread ends with it: what has not stopped stays attached to that
			tracer := New()
			defer tracer.Close()
			f, err := tracer.Freeze(within(t, 100*time.Millisecond), []int{pid})
			if err == nil {
				err = f.Thaw()
			}
			done <- err
		}()
		if err = <-done; err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "has not got a processor in time") || !strings.Contains(err.Error(), strconv.Itoa(pid)) {
		t.Errorf("a thread without a processor: %v", err)
	}
	if err := kernel.Kill(hog, kernel.SIGKILL); err != nil {
		t.Fatal(err)
	}
	tracer := New()
	defer tracer.Close()
	if err := freeze(t, tracer, pid).Thaw(); err != nil {
		t.Error(err)
	}
}
