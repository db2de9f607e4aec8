package frames

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/kexec"
)

// The kernel makes a device of each range that is soft reserved (drivers/dax/hmem), and its driver kmem gives the memory of such a device to the page
// allocator (Documentation/ABI/testing/sysfs-bus-dax).
const (
	daxBus     = "/sys/bus/dax"
	kmemDriver = daxBus + "/drivers/kmem"
	// autoprobe says whether drivers take devices by themselves. Since v6.8 kmem would take all of them as soon as it is loaded (drivers/dax/bus.c, dax_match_type).
	autoprobe = daxBus + "/drivers_autoprobe"
)

// Loan is the memory that the running kernel was told to leave alone, and that its page allocator does not have yet, in the units in which it can get it.
type Loan struct {
	units []unit // by address
}

// unit is memory that is given back at once.
type unit struct {
	kexec.Range
	device string // name
}

// OpenLoan loads the modules with which memory is given back. Nothing is given back by that.
func OpenLoan(ctx context.Context) (*Loan, error) {
	left, err := Left()
	if err != nil || len(left) == 0 {
		return &Loan{}, err
	}
	if _, err := os.Stat(daxBus); errors.Is(err, os.ErrNotExist) {
		if err := modprobe(ctx, "dax"); err != nil {
			return nil, err
		}
	}
	if err := writeText(autoprobe, "0"); err != nil {
		return nil, err
	}
	for _, name := range []string{"dax_hmem", "kmem"} {
		if err := modprobe(ctx, name); err != nil {
			return nil, err
		}
	}
	l := &Loan{}
	return l, l.find(left)
}

func modprobe(ctx context.Context, name string) error {
	if text, err := exec.CommandContext(ctx, "modprobe", name).CombinedOutput(); err != nil {
		return fmt.Errorf("modprobe %s: %w: %s", name, err, strings.TrimSpace(string(text)))
	}
	return nil
}

// find lists the devices whose memory was not given back.
func (l *Loan) find(left kexec.Ranges) error {
	dirs, err := filepath.Glob(daxBus + "/devices/dax*")
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		start, err := readNumber(dir+"/resource", 16)
		if err != nil {
			return err
		}
		size, err := readNumber(dir+"/size", 10)
		if err != nil {
			return err
		}
		if r := (kexec.Range{Start: start, End: start + size}); left.Overlaps(r) {
			l.units = append(l.units, unit{r, filepath.Base(dir)})
		}
	}
	slices.SortFunc(l.units, func(a, b unit) int { return cmp.Compare(a.Start, b.Start) })
	for _, u := range l.units {
		left = left.Minus(u.Range)
	}
	if len(left) > 0 {
		return fmt.Errorf("the kernel has no device for the memory %v", left)
	}
	return nil
}

// Units lists what was not given back, by address.
func (l *Loan) Units() (all []kexec.Range) {
	for _, u := range l.units {
		all = append(all, u.Range)
	}
	return all
}

// Return hands a unit to the page allocator. What its frames held is lost.
func (l *Loan) Return(ctx context.Context, r kexec.Range) error {
	i := slices.IndexFunc(l.units, func(u unit) bool { return u.Range == r })
	if i < 0 {
		return fmt.Errorf("memory %v was given back already", r)
	}
	if err := bindToKmem(l.units[i].device); err != nil {
		return fmt.Errorf("memory %v: %w", r, err)
	}
	if err := awaitOnline(ctx, kexec.Ranges{r}); err != nil {
		return err
	}
	l.units = slices.Delete(l.units, i, i+1)
	return nil
}

// Close lets drivers take devices as they like again, if all memory was given back.
func (l *Loan) Close() error {
	kept, err := Kept()
	if err != nil || len(kept) == 0 || len(l.units) > 0 {
		return err
	}
	return writeText(autoprobe, "1")
}

// GiveBack hands all memory that the running kernel was told to leave alone to its page allocator. What the frames held is lost.
func GiveBack(ctx context.Context) error {
	l, err := OpenLoan(ctx)
	if err != nil {
		return err
	}
	for _, r := range l.Units() {
		if err := l.Return(ctx, r); err != nil {
			return err
		}
	}
	return l.Close()
}

// bindToKmem gives the memory of a device to the page allocator, if the kernel has not done so by itself.
func bindToKmem(device string) error {
	driver, err := os.Readlink(filepath.Join(daxBus, "devices", device, "driver"))
	if err == nil && filepath.Base(driver) == "kmem" {
		return nil
	}
	if err == nil {
		if err := writeText(filepath.Join(daxBus, "drivers", filepath.Base(driver), "unbind"), device); err != nil {
			return err
		}
	}
	// A kmem that does not take such devices by itself (before v6.8) has to be told their names, and takes them then. Any other would take all that nobody has.
	err = writeText(kmemDriver+"/bind", device)
	if errors.Is(err, kernel.ENODEV) {
		return writeText(kmemDriver+"/new_id", device)
	}
	return err
}

// awaitOnline puts the memory blocks of kept online and waits until they are.
func awaitOnline(ctx context.Context, kept kexec.Ranges) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		missing, err := notOnline(kept)
		if err != nil || len(missing) == 0 {
			return err
		}
		var failed []error
		for _, b := range missing {
			err := writeText(b.state, "online")
			if errors.Is(err, os.ErrNotExist) {
				err = fmt.Errorf("%s: the memory has not appeared", filepath.Dir(b.state))
			}
			failed = append(failed, err)
		}
		failure, pause := errors.Join(failed...), time.Duration(0)
		if failure != nil {
			pause = 20 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return errors.Join(failure, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// Left is the part of Kept that can be given back and was not.
func Left() (kexec.Ranges, error) {
	kept, returned, err := loans()
	for _, r := range returned {
		kept = kept.Minus(r)
	}
	return kept, err
}

// givenBack is the part of Kept that the page allocator has by now.
func givenBack() (kexec.Ranges, error) {
	_, returned, err := loans()
	return returned, err
}

// loans returns what of Kept can be given back, and what of that was.
func loans() (all, returned kexec.Ranges, err error) {
	kept, err := Kept()
	if err != nil || len(kept) == 0 {
		return nil, nil, err
	}
	size, err := BlockSize()
	if err != nil {
		return nil, nil, err
	}
	all = wholeBlocks(kept, size)
	if _, err := os.Stat(kmemDriver); errors.Is(err, os.ErrNotExist) {
		return all, nil, nil // a look at each block would take its time
	}
	missing, err := notOnline(all)
	if err != nil {
		return nil, nil, err
	}
	returned = all
	for _, b := range missing {
		returned = returned.Minus(b.Range)
	}
	return all, returned, nil
}

// wholeBlocks is the part of memory that is whole blocks: what the page allocator can get.
func wholeBlocks(rs kexec.Ranges, size uint64) (whole kexec.Ranges) {
	for _, r := range rs {
		r.Start, r.End = (r.Start+size-1)&^(size-1), r.End&^(size-1)
		if r.Start < r.End {
			whole = append(whole, r)
		}
	}
	return whole
}

// notOnline returns those blocks of memory that the page allocator does not have.
func notOnline(kept kexec.Ranges) (missing []block, err error) {
	size, err := BlockSize()
	if err != nil {
		return nil, err
	}
	for _, r := range wholeBlocks(kept, size) {
		for at := r.Start; at < r.End; at += size {
			b := block{Range: kexec.Range{Start: at, End: at + size}, state: fmt.Sprintf("%s/memory%d/state", memoryDir, at/size)}
			if online, err := isOnline(b.state); err != nil || !online {
				missing = append(missing, b)
			}
		}
	}
	return missing, nil
}
