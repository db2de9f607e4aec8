package update

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/kup-project/kup/internal/app"
	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/kexec"
	"github.com/kup-project/kup/internal/kmod"
	"github.com/kup-project/kup/internal/refuse"
)

// modulePath is where the module for the next kernel is kept, which binds memory that has stayed where it was.
func modulePath(stateDir string) string { return filepath.Join(stateDir, directory, "kup-frames.ko") }

// workDir is where changes of the running kernel's settings are noted, see frames.Recover.
func workDir(stateDir string) string { return filepath.Join(stateDir, directory) }

// takeModule puts kup's module for the next kernel to where that will find it.
func (u *update) takeModule() error {
	if u.Module == "" {
		return refuse.Errorf("the next kernel can bind memory only with kup's module: build it with `kup module build --kernel %s`, and name it with --module", u.Kernel)
	}
	module, err := os.ReadFile(u.Module)
	if err != nil {
		return fmt.Errorf("kup's module for the next kernel: %w", err)
	}
	if _, err := kmod.Check(u.next.Image, module); err != nil {
		return refuse.Errorf("%s: %w; build it anew with `kup module build --kernel %s`", u.Module, err, u.Kernel)
	}
	return renameio.WriteFile(modulePath(u.Store.Dir()), module, 0o600)
}

// stayInPlace makes room for the next kernel beside the applications' memory.
func (u *update) stayInPlace(ctx context.Context, next frames.Next) (err error) {
	var pids []int
	for _, c := range u.carried {
		pids = append(pids, app.Tree(c.PID)...)
	}
	if u.inPlace, err = frames.TakeInPlace(ctx, workDir(u.Store.Dir()), pids, next); err != nil {
		return err
	}
	u.frames = u.inPlace.Pool
	u.why = fmt.Sprintf("%d MB of memory stay as they are, and the next kernel starts beside them", u.inPlace.Kept().Size()>>20)
	return nil
}

// bind makes the running kernel able to use memory that has stayed where it was.
func (b *boot) bind() error {
	reserved, err := frames.Reserved()
	if err != nil || len(reserved) == 0 {
		return err
	}
	if b.overcommit, err = frames.Overcommit(workDir(b.Store.Dir())); err != nil {
		return err
	}
	if err := kernel.LoadModule(modulePath(b.Store.Dir())); err != nil {
		return fmt.Errorf("kup's module, without which memory cannot stay where it is: %w", err)
	}
	binder, err := frames.OpenBinder()
	if err != nil {
		return err
	}
	defer binder.Close()
	b.note("module loaded")
	if b.meter, err = newMeter(); err != nil {
		return err
	}
	for _, r := range reserved {
		// A boot that was killed may have said so before.
		if err := binder.Preserve(kexec.Ranges{r}); err != nil && !errors.Is(err, kernel.EEXIST) {
			return err
		}
	}
	return nil
}

// spareGap is how much memory between what applications have is worth freeing for itself, bytes.
const spareGap = 1 << 20

// endOvercommit makes the kernel count again.
func (b *boot) endOvercommit() error {
	if b.overcommit == nil {
		return nil
	}
	return b.overcommit.Close()
}

// freeSpare gives the page allocator most of what was reserved for it, and is in no image: while applications are being filled they need memory, too.
func (b *boot) freeSpare() error {
	reserved, err := frames.Reserved()
	if err != nil || len(reserved) == 0 || !b.placesKnown {
		return err
	}
	binder, err := frames.OpenBinder()
	if errors.Is(err, frames.ErrNoModule) {
		return nil // a boot before has given all of it away
	}
	if err != nil {
		return err
	}
	defer binder.Close()
	pages, err := binder.Free(unneeded(reserved, b.places))
	if err != nil {
		return err
	}
	if b.meter != nil {
		b.meter.gained(pages * kernel.PageSize)
	}
	b.note(fmt.Sprintf("spare memory given back: %d MB", pages*kernel.PageSize>>20))
	return nil
}

// unneeded is what of reserved memory is not needed, but for small gaps.
func unneeded(reserved kexec.Ranges, needed []image.Extent) (all kexec.Ranges) {
	var from foam.Extents
	for _, r := range reserved {
		from = append(from, image.Extent(r))
	}
	for _, e := range from.Minus(foam.Merged(needed...).Bridged(spareGap)) {
		all = append(all, kexec.Range(e))
	}
	return all
}

// unreserved is a file that says that the running kernel has all of its memory.
const unreserved = "/run/kup/unreserved"

// unreserve gives the page allocator what was reserved for it and is nobody's. The module is not needed any more.
func (b *boot) unreserve() error {
	reserved, err := frames.Reserved()
	if err != nil || len(reserved) == 0 {
		return err
	}
	if _, err := os.Stat(unreserved); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	binder, err := frames.OpenBinder()
	if err != nil {
		return err
	}
	pages, err := binder.Free(reserved)
	if err := errors.Join(err, binder.Close()); err != nil {
		return err
	}
	if err := kernel.UnloadModule("kup_frames"); err != nil {
		return err
	}
	b.note(fmt.Sprintf("memory given back: %d of %d MB were not in use", pages*kernel.PageSize>>20, reserved.Size()>>20))
	if err := os.MkdirAll(filepath.Dir(unreserved), 0o700); err != nil {
		return err
	}
	return os.WriteFile(unreserved, nil, 0o600)
}
