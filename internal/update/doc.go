// Package update carries all applications under kup's care over a change of the kernel.
//
// Run (run.go, change.go) is the old kernel's part: check -> load the next kernel -> freeze -> capture -> switch. Boot (boot.go) is the new
// kernel's part, to be run before the network interface is up: silence -> network up -> restore -> fill -> settle. The applications run from
// restore on; fill (fill.go) waits for their memory.
//
// Both write a journal (journal.go), a file that is durable before the step that it names is taken. Whoever comes up finds one of
// these phases in it, and knows by the boot ID whether the machine has been restarted since:
//
//	phase      same boot                             another boot
//	prepared   nobody was stopped                    nothing is complete: start afresh
//	frozen     the applications were thawed          nothing is complete: start afresh
//	switched   kup's will is about to take it back   images are complete: restore
//	restoring  -                                     restore those that are not marked as restored
//	settled, aborted                                 nothing is left to do
//
// If memory travels in page frames, so do images and journal (parcel.go): nothing is written to the disk in the freeze. There the journal stays "prepared" until
// the next kernel has found the other one, which says "switched", in memory.
//
// In the left column kup was killed: applications that kup had frozen run on by themselves (package tracee), so their images are
// out of date at once and are removed. Its will (will.go) unloads the next kernel, and makes "frozen" of "switched": the machine may be restarted before
// another kup sees the journal.
//
// Invariants: nothing stops before all that can be checked was checked and the next kernel is loaded; whatever fails before
// the jump leaves all applications running; no image is deleted before its application was restored from it and has all of its memory, or that is lost.
package update
