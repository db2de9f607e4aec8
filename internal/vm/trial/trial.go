// Package trial is a guest with kup inside, the boot files of several kernels on its disk, and applications that live through the
// changes between them: for the demonstration, and for tests of updates.
package trial

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/kup-project/kup/internal/update"
	"github.com/kup-project/kup/internal/vm"
)

// StateDir is kup's state directory in the guest, as cmd/guest-init sets it.
const StateDir = vm.DiskMount + "/kup"

// JournalPath is where the guest's kup has its journal of updates.
var JournalPath = update.JournalPath(StateDir)

// Config describes a trial.
type Config struct {
	Dir      string            // for files of the trial; it must exist, and its owner removes it
	Lines    []string          // of kernels, as "6.1"; the guest begins with the first
	Programs []string          // see vm.Initramfs
	Files    map[string]string // see vm.Initramfs
	MemoryMB int               // of the guest, 0: 1024
	DiskMB   int               // of its disk, 0: 1024
	Net      *vm.Net           // may be nil
	Append   string            // more for the first kernel's command line
}

// Guest is a running trial.
type Guest struct {
	*vm.Guest
	Kernel map[string]string // path of a kernel in the guest, by line
	Initrd map[string]string // and of its initramfs
	Log    string            // of the console

	config vm.Config
}

// Start builds kup and boots the guest.
func Start(ctx context.Context, c Config) (*Guest, error) {
	g := &Guest{Kernel: map[string]string{}, Initrd: map[string]string{}, Log: filepath.Join(c.Dir, "console.log")}
	root := vm.Initramfs{Init: filepath.Join(c.Dir, "guest-init"), Programs: c.Programs, Files: maps.Clone(c.Files)}
	if root.Files == nil {
		root.Files = map[string]string{}
	}
	kup := filepath.Join(c.Dir, "kup")
	root.Files["/bin/kup"] = kup
	if err := vm.BuildInit(ctx, root.Init); err != nil {
		return nil, err
	}
	if err := vm.BuildProgram(ctx, "./cmd/kup", kup); err != nil {
		return nil, err
	}
	disk := filepath.Join(c.Dir, "disk")
	defer os.RemoveAll(disk)
	first := filepath.Join(c.Dir, "initrd")
	for _, line := range slices.Backward(c.Lines) {
		var err error
		if root.Kernel, err = vm.FindKernel(line); err != nil {
			return nil, err
		}
		if g.Kernel[line], g.Initrd[line], err = vm.WriteBootFiles(disk, root); err != nil {
			return nil, err
		}
	}
	if err := root.Write(first); err != nil {
		return nil, err
	}
	config := vm.Config{
		Kernel: root.Kernel, Initramfs: first, Append: c.Append, MemoryMB: c.MemoryMB,
		Disk: filepath.Join(c.Dir, "disk.ext4"), Net: c.Net, Log: g.Log,
	}
	megabytes := c.DiskMB
	if megabytes == 0 {
		megabytes = 1024
	}
	if err := vm.CreateDisk(ctx, config.Disk, megabytes, disk); err != nil {
		return nil, err
	}
	g.config = config
	if err := g.boot(ctx); err != nil {
		return nil, err
	}
	return g, nil
}

// boot starts the machine.
func (g *Guest) boot(ctx context.Context) (err error) {
	if g.Guest, err = vm.Start(ctx, g.config); err != nil {
		return err
	}
	if boot := g.Boots()[0]; boot.Trouble != "" {
		g.Close()
		return fmt.Errorf("the guest's first start-up: %s", boot.Trouble)
	}
	return nil
}

// PowerCut ends the guest without a warning and starts it again with what its disk has.
func (g *Guest) PowerCut(ctx context.Context) error {
	g.Close()
	return g.boot(ctx)
}

// Timeline says when the steps of an update happened, on the host's clock.
type Timeline struct {
	Release  string // of the new kernel
	Asked    time.Time
	Marks    []vm.Mark // from the first to the last of this update
	Finished time.Time
}

// At is when a step was reported, or the zero time.
func (t *Timeline) At(what string) time.Time {
	for _, m := range t.Marks {
		if m.What == what {
			return m.At
		}
	}
	return time.Time{}
}

// Update takes the guest to another kernel, and waits until its start-up is over.
func (g *Guest) Update(ctx context.Context, line string, options ...string) (*Timeline, error) {
	t := &Timeline{Asked: time.Now()}
	before := len(g.Marks())
	boots := len(g.Boots())
	args := append([]string{"kup", "update", "--kernel", g.Kernel[line], "--initrd", g.Initrd[line]}, options...)
	r, err := g.Run(ctx, args...)
	if err == nil {
		return nil, fmt.Errorf("kup update to %s: exit code %d: %s", line, r.ExitCode, r.Stderr)
	}
	if !errors.Is(err, vm.ErrRebooted) {
		return nil, fmt.Errorf("kup update to %s: %w: %s", line, err, r.Stderr)
	}
	boot, err := g.WaitBoot(ctx, boots+1)
	if err != nil {
		return nil, err
	}
	t.Finished, t.Release = time.Now(), boot.Release
	t.Marks = g.Marks()[before:]
	if boot.Trouble != "" {
		return t, fmt.Errorf("start-up of %s: %s", boot.Release, boot.Trouble)
	}
	return t, nil
}

// Journal is what the last update and the boot after it have noted about themselves.
func (g *Guest) Journal(ctx context.Context) (*update.Journal, error) {
	text, err := g.ReadFile(ctx, JournalPath)
	if err != nil {
		return nil, err
	}
	journal := &update.Journal{}
	if err := json.Unmarshal(text, journal); err != nil {
		return nil, fmt.Errorf("%s: %w", JournalPath, err)
	}
	return journal, nil
}
