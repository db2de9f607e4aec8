package kernel

import "golang.org/x/sys/unix"

// SetChildSubreaper makes the calling process the parent of every orphan among its descendants, see
// PR_SET_CHILD_SUBREAPER in prctl(2). Whoever restores a tree and ends leaves it to its nearest subreaper, which may
// then wait for it.
func SetChildSubreaper() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}
