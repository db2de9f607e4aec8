package update

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kup-project/kup/internal/app"
	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/refuse"
)

// Carrier is where the applications' memory is while the kernel changes.
type Carrier string

const (
	CarrierBest Carrier = ""     // CarrierRAM if that is possible, else CarrierDisk
	CarrierDisk Carrier = "disk" // in the images, on the disk of the state directory
	CarrierRAM  Carrier = "ram"  // in page frames that the next kernel leaves alone until they were read
	// CarrierFrames: where it is. The next kernel starts beside it, and kup's module makes it the applications' again.
	CarrierFrames Carrier = "frames"
)

// chooseCarrier takes memory to carry the applications' in, if it is wanted and there is enough.
func (u *update) chooseCarrier(ctx context.Context) error {
	switch u.Carrier {
	case CarrierFrames:
		return u.stayInPlace(ctx)
	case CarrierDisk:
		u.carrier, u.why = CarrierDisk, "it was asked for"
		return nil
	case CarrierBest, CarrierRAM:
	default:
		return fmt.Errorf("there is no carrier %q, only %s, %s and %s", u.Carrier, CarrierDisk, CarrierRAM, CarrierFrames)
	}
	err := u.takeFrames()
	switch {
	case err == nil:
		u.carrier, u.why = CarrierRAM, fmt.Sprintf("%d MB of memory blocks are kept from the next kernel until they were read", u.frames.Blocks().Size()>>20)
	case u.Carrier == CarrierRAM:
		return refuse.Errorf("%w; --carrier disk needs less", err)
	default:
		u.carrier, u.why = CarrierDisk, err.Error()
	}
	return nil
}

// checkFallback refuses a fallback for a carrier that can have none.
func (u *update) checkFallback() error {
	if u.KeepFallback && u.carrier == CarrierRAM {
		return refuse.Errorf("--keep-fallback copies memory that stays where it is, with --carrier frames, to the disk as well; with --carrier ram it is copied into memory, and --carrier disk is on the disk anyway")
	}
	return nil
}

// takeFrames takes as much memory as the applications have, and some more: they go on.
func (u *update) takeFrames() (err error) {
	if u.Carrier == CarrierBest {
		if err := u.checkGiveBack(); err != nil {
			return err
		}
	}
	need := uint64(0)
	for _, c := range u.carried {
		need += app.Look(c.Record).Memory
	}
	u.frames, err = frames.Take(need + need/8 + 32<<20)
	return err
}

// checkGiveBack tells whether the next kernel will find the modules with which the memory becomes ordinary again.
func (u *update) checkGiveBack() error {
	for _, module := range []string{"hmem/dax_hmem", "kmem"} {
		pattern := filepath.Join("/lib/modules", u.next.Image.Version, "kernel/drivers/dax", module+".ko*")
		if found, err := filepath.Glob(pattern); err != nil || len(found) == 0 {
			return fmt.Errorf("%s is not there: the next kernel might not get the memory back: %w", pattern, os.ErrNotExist)
		}
	}
	return nil
}

// pool is where sessions put memory, nil for files.
func (u *update) pool() *frames.Pool {
	if u.carrier == CarrierDisk {
		return nil
	}
	return u.frames
}

// fallBack lets the disk carry the memory after all. The next kernel is loaded already: it keeps its hands off memory that is not used, and gives it back
// when it has started.
func (u *update) fallBack(why error) {
	u.carrier, u.why = CarrierDisk, why.Error()
	u.note("carrier: disk: " + u.why)
}

// checkFrames makes sure that memory is where the next kernel will look for it.
func (u *update) checkFrames() error {
	switch {
	case u.inPlace != nil:
		return u.inPlace.Check()
	case u.pool() != nil:
		return u.pool().Check()
	}
	return nil
}
