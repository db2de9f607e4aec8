// Package app is the list of applications under kup's care: what `kup ps` prints and what an update takes along.
//
// An application is a name, the process at the root of its tree, and what is needed to start it afresh. Its record is a file below the
// state directory, which must be on a disk that outlives a change of the kernel:
//
//	apps/NAME.json   the record, replaced atomically
//	apps/NAME.lock   whoever changes the application holds a lock on it
//	images/NAME/N    checkpoints; N counts up
//	log/NAME.log     output of an application that runs detached
//
// A record is a memory, not the truth: a pid may have been given to another process since. So the record also holds the process's start time and
// the boot, and Look compares both with /proc.
package app
