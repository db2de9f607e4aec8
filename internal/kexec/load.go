package kexec

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/kup-project/kup/internal/kernel"
)

// Options say what to boot.
type Options struct {
	Kernel  string // path of a bzImage, for example /boot/vmlinuz-6.12.117+deb12-cloud-amd64
	Image   *Image // Kernel, if it was opened before; nil: not yet
	Initrd  string // path of the initrd or initramfs, "": none
	CmdLine string // the kernel command line, complete
	Route   Route  // "": RouteVmlinux, and RouteBzImage for kernels that cannot be unpacked here
	Keep    Ranges // memory that the next kernel is to leave alone; see MemoryMap.Keep
	Unit    uint64 // the most of it that the next kernel is to have in one piece, bytes, 0: whatever hangs together
	Reserve Ranges // RAM that the next kernel is to reserve as it does its own text: kup's module binds the frames in it. Whole pages, at most 100 ranges
	Free    Ranges // memory that this kernel was so started with, and that is to be ordinary again
}

// Plan is a kernel that can be loaded, and how.
type Plan struct {
	Version  string // of the next kernel, as uname -r will print it; "" if the file does not tell
	Banner   string // its whole version message
	Route    Route
	Entry    uint64    // physical address of the first instruction after the running kernel's
	Segments []Segment // where everything goes
	Notes    []string  // sentences on what the user might not expect
}

// Load checks as Check does, and loads the kernel. The running kernel keeps it, over the end of this process, until Jump, Unload or the next Load. A
// kernel that somebody else had loaded is replaced.
func Load(opts Options) (*Plan, error) {
	plan, err := Check(opts)
	if err != nil {
		return nil, err
	}
	if err := kernel.KexecLoad(plan.Entry, forKernel(plan.Segments)); err != nil {
		return nil, fmt.Errorf("kexec_load of %s (entry %#x, segments %v): %w", opts.Kernel, plan.Entry, plan.Segments, explain(err))
	}
	if !Loaded() {
		return nil, fmt.Errorf("kexec_load of %s succeeded, but %s does not say so", opts.Kernel, loadedFile)
	}
	for i := range plan.Segments {
		plan.Segments[i].data = nil // the running kernel has its own copy
	}
	return plan, nil
}

// Unload forgets the loaded kernel, if there is one.
func Unload() error {
	if err := kernel.KexecUnload(); err != nil {
		return fmt.Errorf("unload the next kernel: %w", explain(err))
	}
	return nil
}

// Loaded tells whether a kernel is loaded, whoever did it.
func Loaded() bool {
	text, err := readTrimmed(loadedFile)
	return err == nil && text == "1"
}

// Jump starts the loaded kernel. Nothing is stopped, synced or unmounted: that is the caller's part. It returns only if it failed.
func Jump() error {
	if !Loaded() {
		return fmt.Errorf("%w: call Load first", ErrNotLoaded)
	}
	return fmt.Errorf("reboot into the loaded kernel: %w", explain(kernel.KexecReboot()))
}

// explain adds the sentinel to what the kernel answered.
func explain(err error) error {
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return fmt.Errorf("%w: %w", ErrNoKexec, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", ErrPermission, err)
	}
	return err
}
