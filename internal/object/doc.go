// Package object is what processes hold through descriptors: one file per kind of kernel object, its capture and its
// rebuilding side by side.
//
// Each kind is a Handler in the registry (registry.go). To support a new kind of object, add a file with its Handler, its
// state in package image, and one line in the registry. A descriptor that no Handler claims is refused, by name.
//
// Words:
//
//   - A descriptor is a number in one process's table, with its close-on-exec flag (Descriptor, image.FD).
//   - An open file description is what descriptors made by dup(2) and fork(2) share: offset, status flags, owner
//     (image.OpenFile). It is found by comparing with kcmp(2), captured once, and made again once.
//   - The object is what is behind it, and may have several descriptions: a file, the two ends of a pipe, a socket.
//
// Capture works from outside, through duplicates that pidfd_getfd(2) makes: kup's duplicate is the application's own open file
// description, so what is asked of it is the truth, and nothing may be done with it that the application could notice. Where a kind needs
// more than looking, its Undo is armed inside the target first. Only requests for connections are kept away earlier (Hush), lest connections wait to be accepted
// when nobody can.
//
// Rebuilding goes the other way: kup makes every description in its own table (Create), each process takes those it had
// into the right numbers (Install), and what needs processes, numbers or threads comes last (Connect, SetOwners).
//
// What is shared with a process outside of the application would be torn apart. Files and devices stand that; everything else is refused.
package object
