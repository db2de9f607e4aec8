// Package tracee is everything that is done with ptrace(2): stopping processes, reading and writing registers, and
// executing system calls inside them.
//
// Words:
//
//   - A Tracer is the one operating-system thread that makes all ptrace calls. Every method of this package that touches a
//     task must be called from the goroutine that made the Tracer.
//   - A Task is one thread of an application that was seized and stopped. It belongs to somebody else: whatever is done to it
//     must be undone, even when kup is killed at that instant. System calls are executed in it through an Injection, which
//     heals itself: the injected code holds the way home and takes it when no tracer answers.
//   - A Seed is a task under construction during restore. It is ours, it dies with us (PTRACE_O_EXITKILL), and it executes
//     system calls by a plain loop that ends in int3.
//   - A Holder keeps a copy-on-write copy of a process's memory; it is a Seed that executes nothing.
//   - A Batch is a table of system calls for either of them, executed with one stop. What is to be done in many tasks is begun in all of them and then
//     waited for (InjectAll, RunAll, CloseAll, AskAll): waking a thread and being woken by it costs more than what it does meanwhile.
//
// # An injection
//
// The code stands in the zero tail of the target's own [vdso], which nobody executes; /proc/PID/mem writes it there. What differs from
// thread to thread is in a record behind it. So nothing needs to be mapped to begin with, and the code is still there when
// everything else is gone again. Tables of calls stand in an area that the code maps itself:
//
//	[vdso]  r-x                                area  rw-
//	+------------------------------+           +--------------------------------+
//	| the kernel's image           |           | header: where the clean-up is, |
//	| ...                          |           |   how many entries it has,     |
//	+------------------------------+ tail      |   scratch, how many entries    |
//	| marker                       |           |   the batch has                |
//	| blob: the code, always the   |           +--------------------------------+
//	|   same (testdata/blob.S)     |           | the batch: entries of 9 words, |
//	+------------------------------+           |   then the calls' data         |
//	| record 0  <- r15 of a thread |           +--------------------------------+
//	|   area, stop signal, masks,  |           | the clean-up, likewise         |
//	|   the thread's registers,    |           +--------------------------------+
//	|   the last jump              |
//	+------------------------------+
//	| record 1 ... as many as fit  |
//	+------------------------------+
//
// A thread goes through it like this. A stop is a signal to itself that the process ignores: with a tracer the thread stops at its
// delivery, without one nothing happens and it goes on. "Nothing to do" is what it finds then, because the counts are written
// last.
//
//	enter ----> block signals -> map the area
//	                                  |
//	            +------------------> STOP <----- the tracer writes a batch, or leaves its count 0
//	            |                     |
//	            |     count > 0       |  count = 0
//	            +-- execute batch <---+---> execute the clean-up
//	                count = 0               is a signal pending that ends the interrupted call?
//	                                        unmap the area
//	                                          |
//	                                        STOP  <----- the tracer puts back mask and registers: done
//	                                          |
//	                                        put back flags, stack pointer, mask, registers;
//	                                        jump to where the thread was
//
// Threads that are only asked what nobody else can tell of them (AskAll) need neither table nor batch: the questions are code in the blob, too. Such a thread
// maps an area for the answers, takes them into registers, unmaps the area and stops, once; the tracer reads the registers and puts back its own. Without a
// tracer it goes on as if it had just entered, by an area and a stop with nothing to do.
//
// The invariants: rsp is the thread's own while a signal could be delivered; nothing is written to its stack; extended registers are
// not touched; no call sleeps, but to wait for a dying child (fork.go), or changes the kernel's restart block. The tracer sets registers before it sets the mask, and puts
// back the mask before the registers, so that whenever it dies either the thread's own state is complete, or the thread is in the
// blob and completes it.
//
// The call that the freeze interrupted: the kernel keeps its decision. The tracer leaves rax and orig_rax when it enters, so the kernel itself
// enters two bytes earlier if it restarts the call. While the tracer lives it puts back the registers as they were, and the kernel
// decides once more when the thread is detached. If it dies, the blob decides by the signals that are pending.
package tracee
