package frames

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/kup-project/kup/internal/kexec"
)

// The kernel makes a device of each range that is soft reserved (drivers/dax/hmem), and its driver kmem gives the memory of such a device to the page
// allocator (Documentation/ABI/testing/sysfs-bus-dax).
const (
	daxDevices = "/sys/bus/dax/devices"
	daxDrivers = "/sys/bus/dax/drivers"
)

// GiveBack hands all memory that the running kernel was told to leave alone to its page allocator. What the frames held is lost.
func GiveBack(ctx context.Context) error {
	kept, err := Kept()
	if err != nil || len(kept) == 0 {
		return err
	}
	if missing, err := notOnline(kept); err != nil || len(missing) == 0 {
		return err
	}
	for _, name := range []string{"dax_hmem", "kmem"} {
		if text, err := exec.CommandContext(ctx, "modprobe", name).CombinedOutput(); err != nil {
			return fmt.Errorf("modprobe %s: %w: %s", name, err, strings.TrimSpace(string(text)))
		}
	}
	devices, err := filepath.Glob(daxDevices + "/dax*")
	if err != nil {
		return err
	}
	for _, dir := range devices {
		start, err := readNumber(dir+"/resource", 16)
		if err != nil {
			return err
		}
		if !kept.Overlaps(kexec.Range{Start: start, End: start + 1}) {
			continue
		}
		if err := bindToKmem(dir); err != nil {
			return err
		}
	}
	return awaitOnline(ctx, kept)
}

// bindToKmem gives the memory of a device to the page allocator, if the kernel has not done so by itself.
func bindToKmem(dir string) error {
	name := filepath.Base(dir)
	driver, err := os.Readlink(dir + "/driver")
	if err == nil && filepath.Base(driver) == "kmem" {
		return nil
	}
	if err == nil {
		if err := writeText(filepath.Join(daxDrivers, filepath.Base(driver), "unbind"), name); err != nil {
			return err
		}
	}
	return writeText(daxDrivers+"/kmem/new_id", name)
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
		for _, state := range missing {
			err := writeText(state, "online")
			if errors.Is(err, os.ErrNotExist) {
				err = fmt.Errorf("%s: the memory has not appeared", filepath.Dir(state))
			}
			failed = append(failed, err)
		}
		select {
		case <-ctx.Done():
			return errors.Join(append(failed, ctx.Err())...)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// notOnline returns the state files of those blocks of memory that the page allocator does not have.
func notOnline(kept kexec.Ranges) ([]string, error) {
	size, err := blockSize()
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, r := range kept {
		for at := r.Start; at < r.End; at += size {
			path := fmt.Sprintf("%s/memory%d/state", memoryDir, at/size)
			if text, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(text)) != "online" {
				missing = append(missing, path)
			}
		}
	}
	return missing, nil
}
