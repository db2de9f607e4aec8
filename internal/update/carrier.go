package update

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kup-project/kup/internal/app"
	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/kexec"
	"github.com/kup-project/kup/internal/refuse"
)

// Carrier is where the applications' memory is while the kernel changes.
type Carrier string

const (
	CarrierBest Carrier = ""     // CarrierModule with a module, CarrierRAM if there is room for it, CarrierCopy if there is for that, else CarrierDisk
	CarrierDisk Carrier = "disk" // in the images, on the disk of the state directory
	CarrierRAM  Carrier = "ram"  // in page frames that the next kernel leaves alone until they were read

	// Where it is. The next kernel starts beside it.
	CarrierFrames Carrier = "frames"        // CarrierModule with a module, else CarrierCopy
	CarrierModule Carrier = "frames=module" // kup's module makes it the applications' again
	CarrierCopy   Carrier = "frames=copy"   // it is copied to the applications, memory block by memory block, and each block given back then
)

// Carriers are what can be asked for.
var Carriers = []Carrier{CarrierFrames, CarrierModule, CarrierCopy, CarrierRAM, CarrierDisk}

// chooseCarrier takes memory to carry the applications' in, or makes room for the next kernel beside it, if that is wanted and possible.
func (u *update) chooseCarrier(ctx context.Context) error {
	switch u.Carrier {
	case CarrierBest:
		return u.bestCarrier(ctx)
	case CarrierFrames:
		if u.Module == "" {
			return u.forcedCarrier(ctx, CarrierCopy)
		}
		return u.forcedCarrier(ctx, CarrierModule)
	}
	return u.forcedCarrier(ctx, u.Carrier)
}

func (u *update) forcedCarrier(ctx context.Context, c Carrier) error {
	err := u.tryCarrier(ctx, c)
	if err != nil && c != CarrierModule || errors.Is(err, frames.ErrNoRoom) || errors.Is(err, frames.ErrNoSlice) {
		return refuse.Errorf("%w; --carrier disk needs less", err)
	}
	return err
}

// bestCarrier tries one after the other.
func (u *update) bestCarrier(ctx context.Context) error {
	candidates := []Carrier{CarrierRAM, CarrierCopy}
	if u.KeepFallback {
		candidates = candidates[1:]
	}
	if u.Module != "" {
		candidates = append([]Carrier{CarrierModule}, candidates...)
	}
	var refused []string
	for _, c := range candidates {
		err := u.tryCarrier(ctx, c)
		if err == nil || ctx.Err() != nil {
			u.why = strings.Join(append([]string{u.why}, refused...), "; ")
			return context.Cause(ctx)
		}
		refused = append(refused, fmt.Sprintf("not %s: %v", c, err))
	}
	u.carrier, u.why = CarrierDisk, strings.Join(refused, "; ")
	return nil
}

// checkFallback refuses a fallback for a carrier that can have none.
func (u *update) checkFallback() error {
	if u.KeepFallback && u.carrier == CarrierRAM {
		return refuse.Errorf("--keep-fallback copies memory that stays where it is, with --carrier frames, to the disk as well; with --carrier ram it is copied into memory, and --carrier disk is on the disk anyway")
	}
	return nil
}

// tryCarrier prepares one. If it fails, nothing is taken.
func (u *update) tryCarrier(ctx context.Context, c Carrier) (err error) {
	switch u.carrier, u.why = c, "it was asked for"; c {
	case CarrierDisk:
	case CarrierRAM:
		err = u.takeFrames()
	case CarrierModule:
		if err = u.takeModule(); err == nil {
			err = u.stayInPlace(ctx, frames.Binds)
		}
	case CarrierCopy:
		if err = errors.Join(checkGiveBack(u.next.Image.Version), kernel.FeatureDevMem.Err()); err == nil {
			err = u.stayInPlace(ctx, frames.Copies)
		}
	default:
		err = fmt.Errorf("there is no carrier %q, only %v", c, Carriers)
	}
	return err
}

// takeFrames takes as much memory as the applications have, and some more: they go on.
func (u *update) takeFrames() (err error) {
	if u.Carrier == CarrierBest {
		if err := checkGiveBack(u.next.Image.Version); err != nil {
			return err
		}
	}
	need := uint64(0)
	for _, c := range u.carried {
		need += app.Look(c.Record).Memory
	}
	if u.frames, err = frames.Take(need + need/8 + 32<<20); err != nil {
		return err
	}
	u.why = fmt.Sprintf("%d MB of memory blocks are kept from the next kernel until they were read", u.frames.Blocks().Size()>>20)
	return nil
}

// checkGiveBack tells whether the next kernel will find the modules with which the memory becomes ordinary again.
func checkGiveBack(release string) error {
	for _, module := range []string{"hmem/dax_hmem", "kmem"} {
		pattern := filepath.Join("/lib/modules", release, "kernel/drivers/dax", module+".ko*")
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

// fallBack lets the disk carry the memory after all. A next kernel that is loaded already keeps its hands off memory that is not used, and gives it back
// when it has started; one that would have to start in a slice is loaded anew. The applications run.
func (u *update) fallBack(why error) error {
	u.carrier, u.why, u.parcel = CarrierDisk, why.Error(), nil
	u.note("carrier: disk: " + u.why)
	if u.inPlace == nil {
		return nil
	}
	failed := u.inPlace.Close()
	if u.inPlace, u.frames = nil, nil; failed != nil {
		return failed
	}
	if err := u.describeNext(); err != nil {
		return err
	}
	_, err := kexec.Load(u.next)
	return err
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
