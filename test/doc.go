// Package test checkpoints and restores real programs through the command line, on the kernel it runs on.
//
// A row is a small self-checking program (programs/, one per property that KUP promises to keep) together with what
// the harness must do around it. A mode is what happens to the row between its "ready" and its end: nothing,
// checkpoint and continue, the same by a fork, checkpoint and restore, or two restores from one image. programs/check.h describes the
// protocol between the two.
//
// The tests need root, gcc, nft, memcached and redis-server, and fail where one is missing.
package test
