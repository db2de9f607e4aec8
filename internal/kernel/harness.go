package kernel

import (
	"math"

	"golang.org/x/sys/unix"
)

// SetChildSubreaper makes the calling process the parent of every orphan among its descendants, see
// PR_SET_CHILD_SUBREAPER in prctl(2). Whoever restores a tree and ends leaves it to its nearest subreaper, which may
// then wait for it.
func SetChildSubreaper() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// KeepFromChildren marks all descriptors but the three standard ones close-on-exec: whatever the caller itself has
// inherited, its children do not. See close_range(2); Linux 5.11.
func KeepFromChildren() error {
	return unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
}
