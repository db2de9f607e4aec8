// Package memory is the address space of a process: its mappings, the pages in them, and their way to the image and back.
//
// Words:
//
//   - A VMA is one mapping, as /proc/PID/maps lists it.
//   - Private memory has one FOAM per process, holding the pages that are the process's own: anonymous ones, and copies of
//     file pages that it wrote to.
//   - A holder is a copy of a process made by fork(2), from which private memory is read while the process runs on (held.go).
//   - Shared memory (shared anonymous memory, memfd, System V segments) is an object of its own, with one FOAM per object,
//     saved once however many processes map it.
//
// Invariants: pages never come back through a private mapping of an image file, since MADV_DONTNEED would bring the old
// contents back instead of zeros; a mapping that no code here understands is refused, by address.
package memory
