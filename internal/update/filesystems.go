package update

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/kup-project/kup/internal/kernel"
)

// fileSystems are those on block devices that are frozen for the jump: the next kernel finds them clean and need not replay
// journals. If kup dies they thaw.
type fileSystems struct {
	open []*os.File // opened before the freeze, in the order of freezing
	will *kernel.Will
	done int // how many are frozen
}

// openFileSystems finds out what to freeze. A file system may lie in a file of one that was mounted earlier, so the last comes first.
func openFileSystems() (*fileSystems, error) {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("mounts: %w", err)
	}
	f := &fileSystems{}
	seen := map[[2]int]bool{}
	for _, m := range slices.Backward(mounts) {
		device := [2]int{m.Major, m.Minor}
		if !strings.HasPrefix(m.Source, "/dev/") || seen[device] || slices.Contains(strings.Split(m.VFSOptions, ","), "ro") {
			continue
		}
		dir, err := os.Open(m.Mountpoint)
		if err != nil {
			continue // hidden by another mount; sync(2) reaches it all the same
		}
		seen[device] = true
		f.open = append(f.open, dir)
	}
	if f.will, err = kernel.NewWill(len(f.open)); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// freeze makes all file systems clean. Until thaw, whoever writes to them waits, kup included. It may be done again after that.
func (f *fileSystems) freeze() error {
	kernel.Sync()
	for i, dir := range f.open {
		if dir == nil {
			continue
		}
		f.will.ThawFileSystem(i, dir)
		err := kernel.FreezeFileSystem(dir)
		f.done = i + 1
		if err == nil {
			continue
		}
		f.will.Revoke(i)
		// Some cannot be frozen; and one that is frozen already is clean, and somebody else's to thaw.
		if !errors.Is(err, kernel.EOPNOTSUPP) && !errors.Is(err, kernel.EBUSY) {
			return err
		}
		f.open[i] = nil
		dir.Close()
	}
	return nil
}

// thaw takes freeze back.
func (f *fileSystems) thaw() error {
	var failed []error
	for i := f.done - 1; i >= 0; i-- {
		if f.open[i] == nil {
			continue
		}
		// The one whose freezing failed is not frozen: EINVAL.
		if err := kernel.ThawFileSystem(f.open[i]); err != nil && !errors.Is(err, kernel.EINVAL) {
			failed = append(failed, err)
		}
		f.will.Revoke(i)
	}
	f.done = 0
	return errors.Join(failed...)
}

func (f *fileSystems) close() {
	if f.will != nil {
		_ = f.will.Close() // it has nothing to do any more
	}
	for _, dir := range f.open {
		if dir != nil {
			dir.Close()
		}
	}
}
