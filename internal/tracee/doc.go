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
//   - A Batch is a table of system calls for either of them, executed with one stop.
package tracee
