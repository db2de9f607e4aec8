package frames_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kup-project/kup/internal/kmod"
	"github.com/kup-project/kup/internal/vm"
	"github.com/kup-project/kup/internal/vm/vmtest"
)

// binderGuest has testdata/binder and testdata/tenant.c inside, and the boot files and the module of both kernels.
type binderGuest struct {
	*vm.Guest
	kernel, initrd map[string]string // paths in the guest, by line
	boots          int
}

func startBinderGuest(t *testing.T, line string) *binderGuest {
	t.Helper()
	g := &binderGuest{kernel: map[string]string{}, initrd: map[string]string{}, boots: 1}
	root := vm.Initramfs{Init: vmtest.Build(t, "./cmd/guest-init")}
	binder, tenant := vmtest.Build(t, "./internal/frames/testdata/binder"), buildTenant(t)
	disk := t.TempDir()
	var first vm.Initramfs
	for _, l := range []string{"6.1", "6.12"} {
		root.Kernel = vmtest.Kernel(t, l)
		root.Files = map[string]string{"/bin/binder": binder, "/bin/tenant": tenant, "/lib/kup-frames.ko": buildModule(t, root.Kernel)}
		var err error
		if g.kernel[l], g.initrd[l], err = vm.WriteBootFiles(disk, root); err != nil {
			t.Fatal(err)
		}
		if l == line {
			first = root
		}
	}
	g.Guest = vmtest.Start(t, vm.Config{
		Kernel: first.Kernel, Initramfs: vmtest.Initramfs(t, first), Disk: vmtest.Disk(t, 512, disk), MemoryMB: 1536,
	})
	return g
}

func buildTenant(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "tenant")
	cmd := exec.CommandContext(t.Context(), "gcc", "-static", "-O1", "-pthread", "-I", "../../module/kup-frames", "-o", out, "testdata/tenant.c")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v: %s", err, text)
	}
	return out
}

func buildModule(t *testing.T, k vm.Kernel) string {
	t.Helper()
	headers, err := vm.FindHeaders(k)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "kup-frames.ko")
	report, err := kmod.Build(t.Context(), kmod.Options{Release: k.Release, Image: k.Image, Headers: headers, Out: out})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("module: %+v", *report)
	return out
}

// sh runs a shell command in the guest that must succeed.
func (g *binderGuest) sh(t *testing.T, command string) string {
	t.Helper()
	return vmtest.Shell(t, g.Guest, command)
}

// jump leaves frames to the next kernel.
func (g *binderGuest) jump(t *testing.T, line string) {
	t.Helper()
	if r, err := g.Run(t.Context(), "binder", "leave", "140", g.kernel[line], g.initrd[line]); !errors.Is(err, vm.ErrRebooted) {
		t.Fatalf("%+v, %v", r, err)
	}
	g.boots++
	boot, err := g.WaitBoot(t.Context(), g.boots)
	if err != nil {
		t.Fatal(err)
	}
	if boot.Release != vmtest.Kernel(t, line).Release || boot.Trouble != "" {
		t.Fatalf("boot: %+v", boot)
	}
}

// memory returns how much memory the kernel has, and how much of that can be had, kB.
func (g *binderGuest) memory(t *testing.T) (total, available int) {
	t.Helper()
	text := g.sh(t, "echo 3 >/proc/sys/vm/drop_caches; grep -E 'MemTotal|MemAvailable' /proc/meminfo")
	if _, err := fmt.Sscanf(text, "MemTotal: %d kB\nMemAvailable: %d kB", &total, &available); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return total, available
}

// complaints are what the kernel has said that it should not have to.
const complaints = "dmesg | grep -E 'BUG|WARNING|Bad page|Bad rss|Call Trace|Oops'; true"

// TestFramesOutliveTheKernel leaves page frames to the next kernel, from each to each, and lives in them.
func TestFramesOutliveTheKernel(t *testing.T) {
	g := startBinderGuest(t, "6.1")
	hops := []string{"6.12", "6.1"}
	if os.Getenv("KUP_LONG_TESTS") != "" {
		hops = []string{"6.12", "6.12", "6.1", "6.1"}
	}
	for _, line := range hops {
		total, available := g.memory(t)
		g.jump(t, line)
		reserved, _ := g.memory(t)
		// Swap, to be able to swap out.
		g.sh(t, "insmod /lib/kup-frames.ko && dd if=/dev/zero of=/data/swap bs=1M count=256 2>/dev/null && mkswap /data/swap && swapon /data/swap")
		t.Log(g.sh(t, "binder take"))
		g.sh(t, "swapoff /data/swap && rm /data/swap && rmmod kup_frames")
		totalNow, availableNow := g.memory(t)
		t.Logf("%s: MemTotal %d -> %d -> %d kB, MemAvailable %d -> %d kB", line, total, reserved, totalNow, available, availableNow)
		// The kernels differ by some MB.
		if totalNow < total-total/50 || availableNow < available-available/50 {
			t.Errorf("%s: memory is missing", line)
		}
		g.fillMemory(t, totalNow)
		if text := strings.TrimSpace(g.sh(t, complaints)); text != "" {
			t.Errorf("%s: the kernel complains:\n%s", line, text)
		}
	}
}

// fillMemory uses half of the memory, kB, once.
func (g *binderGuest) fillMemory(t *testing.T, total int) {
	t.Helper()
	const seed = 8 // MB
	g.sh(t, fmt.Sprintf("mkdir /tmp/fill && mount -t tmpfs -o size=%dk tmpfs /tmp/fill && dd if=/dev/urandom of=/tmp/seed bs=1M count=%d 2>/dev/null && "+
		"for i in $(seq %d); do cat /tmp/seed >>/tmp/fill/all; done; umount /tmp/fill; rm -r /tmp/fill /tmp/seed", total, seed, total/1024/seed/2))
}
