package tracee

import (
	"runtime"

	"github.com/kup-project/kup/internal/kernel"
)

// Tracer is the operating-system thread that makes all ptrace calls: the kernel ties a tracee to the *thread* that attached
// to it. Its methods, and those of the tasks it made, are called from the goroutine that called New.
type Tracer struct {
	was        *kernel.SchedAttr // scheduling of the thread before, nil if it was not changed
	stragglers bool              // tasks that did not stop are still attached
}

// New locks the calling goroutine to its thread until Close, and puts that thread before all ordinary ones where it may: a frozen application
// must not wait for its tracer to get a processor. What the thread forks is scheduled as ever.
func New() *Tracer {
	runtime.LockOSThread()
	t := &Tracer{}
	if was, err := kernel.SchedGetAttr(0); err == nil && kernel.SchedFIFO() == nil {
		t.was = was
	}
	return t
}

// Close releases the thread. Tasks that are still attached stay so until the thread ends: if Freeze had to leave some behind, it ends with
// the goroutine that called New.
func (t *Tracer) Close() {
	if t.was != nil {
		// It can only fail if the thread was never put first.
		_ = kernel.SchedSetAttr(t.was)
	}
	if !t.stragglers {
		runtime.UnlockOSThread()
	}
}
