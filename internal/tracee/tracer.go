package tracee

import "runtime"

// Tracer is the operating-system thread that makes all ptrace calls: the kernel ties a tracee to the *thread* that attached
// to it. Its methods, and those of the tasks it made, are called from the goroutine that called New.
type Tracer struct {
	stragglers bool // tasks that did not stop are still attached
}

// New locks the calling goroutine to its thread until Close.
func New() *Tracer {
	runtime.LockOSThread()
	return &Tracer{}
}

// Close releases the thread. Tasks that are still attached stay so until the thread ends: if Freeze had to leave some behind, it ends with
// the goroutine that called New.
func (t *Tracer) Close() {
	if !t.stragglers {
		runtime.UnlockOSThread()
	}
}
