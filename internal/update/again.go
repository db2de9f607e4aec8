package update

import (
	"errors"
	"fmt"

	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/kexec"
	"github.com/kup-project/kup/internal/procfs"
)

// copyInstead starts this kernel once more, with memory that it cannot bind left alone, so that it can be copied, as with CarrierCopy. It is tried once: that kernel has nothing to
// bind. It returns only if it failed.
func (b *boot) copyInstead(why error) error {
	reserved, err := frames.Reserved()
	if err != nil {
		return err
	}
	sent, err := frames.ParcelParameter()
	if err != nil {
		return err
	}
	next := kexec.Options{Kernel: b.journal.Kernel, Initrd: b.journal.Initrd, Keep: reserved}
	if next.CmdLine, err = commandLine(frames.Parameters(reserved) + " " + sent); err != nil {
		return err
	}
	if next.Unit, err = frames.BlockSize(); err != nil {
		return err
	}
	b.note("once more, to copy memory: " + why.Error())
	release, err := procfs.KernelRelease()
	if err != nil {
		return err
	}
	if err := errors.Join(kexec.CheckMachine(), checkGiveBack(release), kernel.FeatureDevMem.Err()); err != nil {
		return err
	}
	if _, err := kexec.Load(next); err != nil {
		return err
	}
	disks, err := openFileSystems()
	if err != nil {
		return errors.Join(err, kexec.Unload())
	}
	defer disks.close()
	if err := disks.freeze(); err != nil {
		return errors.Join(err, disks.thaw(), kexec.Unload())
	}
	return errors.Join(kexec.Jump(), disks.thaw(), kexec.Unload())
}

// bindOnce is bind, or else this kernel starts once more. What stands in the way stays what it was.
func (b *boot) bindOnce() error {
	if b.bound {
		return b.unbindable
	}
	b.bound, b.unbindable = true, b.bind()
	if b.unbindable != nil && (b.journal.Phase == Prepared || b.journal.Phase == Switched) {
		b.unbindable = fmt.Errorf("%w; it cannot be copied either: %w", b.unbindable, b.copyInstead(b.unbindable))
	}
	return b.unbindable
}

// copiesInstead makes the journal one of CarrierCopy if this kernel was started by copyInstead.
func (b *boot) copiesInstead() error {
	if b.journal.Carrier != CarrierModule {
		return nil
	}
	reserved, err := frames.Reserved()
	if err != nil || len(reserved) > 0 {
		return err
	}
	kept, err := frames.Kept()
	if err != nil || len(kept) == 0 {
		return err
	}
	b.note("the kernel could not bind memory: it is copied, and what is no whole memory block stays reserved until the next update")
	b.journal.Carrier, b.journal.CarrierWhy = CarrierCopy, "the kernel could not bind memory: "+b.journal.CarrierWhy
	return nil
}
