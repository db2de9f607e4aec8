package kernel

import (
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Requests of include/uapi/linux/fs.h: _IOWR('X', 119, int) and _IOWR('X', 120, int).
const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
)

// FreezeFileSystem writes everything of the file system that dir is in to its device, leaves it clean there, and lets whoever
// writes wait until ThawFileSystem. See ioctl(FIFREEZE): EOPNOTSUPP if the file system cannot do it, EBUSY if it is frozen already.
func FreezeFileSystem(dir *os.File) error { return freezeCall(dir, "freeze", fiFreeze) }

// ThawFileSystem takes FreezeFileSystem back; EINVAL if it is not frozen.
func ThawFileSystem(dir *os.File) error { return freezeCall(dir, "thaw", fiThaw) }

func freezeCall(dir *os.File, what string, request uint) error {
	if err := unix.IoctlSetInt(int(dir.Fd()), request, 0); err != nil {
		return &os.PathError{Op: what, Path: dir.Name(), Err: err}
	}
	return nil
}

// ThawFileSystem puts a clause into force: on our death the file system that dir is in is thawed.
func (w *Will) ThawFileSystem(clause int, dir *os.File) {
	c := w.clauses[clause]
	c.call.args = [6]uintptr{dir.Fd(), fiThaw}
	atomic.StoreUintptr(&c.call.nr, unix.SYS_IOCTL)
}
