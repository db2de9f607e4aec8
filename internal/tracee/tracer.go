package tracee

import (
	"os"
	"runtime"
	"runtime/debug"

	"github.com/kup-project/kup/internal/kernel"
)

// Tracer is the operating-system thread that makes all ptrace calls: the kernel ties a tracee to the *thread* that attached
// to it. Its methods, and those of the tasks it made, are called from the goroutine that called New.
type Tracer struct {
	haste      int               // calls of Hasten without their Relax
	was        *kernel.SchedAttr // scheduling of the thread before, nil if it was not changed
	awake      *os.File          // keeps processors from sleeping; nil where that cannot be had
	gcPercent  int               // of the garbage collector before
	stragglers bool              // tasks that did not stop are still attached
	unkeep     func()            // ends kernel.KeepThread; nil where that is not
}

// New locks the calling goroutine to its thread until Close.
func New() *Tracer {
	runtime.LockOSThread()
	// Without it, under strace say, wills are executed a moment later.
	unkeep, _ := kernel.KeepThread()
	return &Tracer{unkeep: unkeep}
}

// Close releases the thread. Tasks that are still attached stay so until the thread ends: if Freeze had to leave some behind, it ends with
// the goroutine that called New.
func (t *Tracer) Close() {
	if t.unkeep != nil {
		t.unkeep()
	}
	if !t.stragglers {
		runtime.UnlockOSThread()
	}
}

// Hasten is called while an application waits for the tracer, as every freeze does: until Relax has been called as often, the thread comes before
// all ordinary ones, though not what it forks, idle processors stay awake, and garbage is hardly collected. Where one of these cannot be had, all goes
// on, only slower.
func (t *Tracer) Hasten() {
	const rarely = 1000 // percent
	if t.haste++; t.haste > 1 {
		return
	}
	if was, err := kernel.SchedGetAttr(0); err == nil && kernel.SchedFIFO() == nil {
		t.was = was
	}
	t.awake, _ = kernel.KeepAwake()
	t.gcPercent = debug.SetGCPercent(rarely)
}

// Relax takes Hasten back.
func (t *Tracer) Relax() {
	if t.haste--; t.haste > 0 {
		return
	}
	debug.SetGCPercent(t.gcPercent)
	t.awake.Close()
	if t.was != nil {
		// It can only fail if the thread was never put first.
		_ = kernel.SchedSetAttr(t.was)
		t.was = nil
	}
}
