package tracee

import (
	"testing"
	"time"

	"github.com/kup-project/kup/internal/kernel"
)

// TestThousandThreads freezes them, executes something in each, and says what it cost.
func TestThousandThreads(t *testing.T) {
	const threads = 1000
	pid := start(t, program(t, "threads"), "1000")
	tracer := New()
	defer tracer.Close()
	reached := map[string]time.Time{}
	crashPoint = func(step string) {
		if _, ok := reached[step]; !ok {
			reached[step] = time.Now()
		}
	}
	defer func() { crashPoint = func(string) {} }()
	for range 3 {
		clear(reached)
		begin := time.Now()
		if _, err := Check([]int{pid}); err != nil {
			t.Fatal(err)
		}
		checked := time.Now()
		f := freeze(t, tracer, pid)
		frozen := time.Now()
		tasks := f.Processes[0].Tasks
		if len(tasks) != threads || tasks[0].TID != pid {
			t.Fatalf("%d tasks, the first is %d", len(tasks), tasks[0].TID)
		}
		for _, task := range tasks {
			i, err := task.Inject(4096)
			if err != nil {
				t.Fatal(err)
			}
			b := NewBatch(i)
			tid := b.Call(kernel.SysGettid)
			if err := b.Run(); err != nil {
				t.Fatal(err)
			}
			if int(tid.Value()) != task.TID {
				t.Fatalf("gettid in %d gives %d", task.TID, tid.Value())
			}
			if err := i.Close(); err != nil {
				t.Fatal(err)
			}
		}
		injected := time.Now()
		if err := f.Thaw(); err != nil {
			t.Fatal(err)
		}
		t.Logf("seize %v, stop %v, settle %v", reached["seized"].Sub(checked), reached["all stopped"].Sub(reached["seized"]), frozen.Sub(reached["all stopped"]))
		t.Logf("%d threads: check %v, check and freeze %v, inject %v (%v each), thaw %v", threads, checked.Sub(begin), frozen.Sub(checked),
			injected.Sub(frozen), injected.Sub(frozen)/threads, time.Since(injected))
	}
}
