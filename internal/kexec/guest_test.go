package kexec_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kup-project/kup/internal/kexec"
	"github.com/kup-project/kup/internal/vm"
	"github.com/kup-project/kup/internal/vm/vmtest"
)

// answer is what testdata/next prints.
type answer struct {
	Plan      *kexec.Plan
	Sentinels []string
	Error     string
}

// guest is a running guest with testdata/next inside and the boot files of both kernels on its disk.
type guest struct {
	*vm.Guest
	boots  int
	kernel map[string]string // path in the guest, by line
	initrd map[string]string
}

var lines = []string{"6.1", "6.12"}

// startGuest boots 6.1, by SeaBIOS if firmware is "".
func startGuest(t *testing.T, firmware string, modules ...string) *guest {
	t.Helper()
	g := &guest{boots: 1, kernel: map[string]string{}, initrd: map[string]string{}}
	root := vm.Initramfs{
		Modules: append(slices.Clone(vm.DefaultModules), modules...),
		Init:    vmtest.Build(t, "./cmd/guest-init"),
		Files:   map[string]string{"/bin/next": vmtest.Build(t, "./internal/kexec/testdata/next")},
	}
	disk := t.TempDir()
	for _, line := range slices.Backward(lines) {
		root.Kernel = vmtest.Kernel(t, line)
		var err error
		if g.kernel[line], g.initrd[line], err = vm.WriteBootFiles(disk, root); err != nil {
			t.Fatal(err)
		}
	}
	g.Guest = vmtest.Start(t, vm.Config{
		Kernel: root.Kernel, Initramfs: vmtest.Initramfs(t, root), Disk: vmtest.Disk(t, 256, disk), MemoryMB: 768, Firmware: firmware,
	})
	return g
}

// next runs testdata/next, wrapped into another command if there is one.
func (g *guest) next(t *testing.T, wrapper []string, args ...string) answer {
	t.Helper()
	out, err := g.Output(t.Context(), append(append(slices.Clone(wrapper), "next"), args...)...)
	if err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	return a
}

// sh returns the output of a shell command in the guest.
func (g *guest) sh(t *testing.T, command string) string {
	t.Helper()
	return vmtest.Shell(t, g.Guest, command)
}

// machine is what must be the same under each kernel.
func (g *guest) machine(t *testing.T) string {
	t.Helper()
	return g.sh(t, `cd /sys/firmware/memmap && for e in *; do echo $(cat $e/start $e/end $e/type); done | sort
		echo CPUs: $(nproc)
		dmesg | grep -E 'ACPI: (RSDP|FACP|APIC)' | sed 's/^.*ACPI/ACPI/'`)
}

// hop is a jump into a kernel.
type hop struct {
	line  string
	route kexec.Route
}

// jump loads and starts the next kernel, waits for it, and returns how it came up.
func (g *guest) jump(t *testing.T, to hop, cmdLine string) vm.Boot {
	t.Helper()
	a := g.next(t, nil, "load", "-kernel", g.kernel[to.line], "-initrd", g.initrd[to.line], "-cmdline", cmdLine, "-route", string(to.route))
	if a.Error != "" {
		t.Fatal(a.Error)
	}
	route := to.route
	if route == "" {
		route = kexec.RouteVmlinux
	}
	if a.Plan.Route != route || a.Plan.Version != vmtest.Kernel(t, to.line).Release || len(a.Plan.Notes) != 0 {
		t.Errorf("plan: %+v", a.Plan)
	}
	if r, err := g.Run(t.Context(), "next", "jump"); !errors.Is(err, vm.ErrRebooted) {
		t.Fatalf("jump: %+v, %v", r, err)
	}
	g.boots++
	boot, err := g.WaitBoot(t.Context(), g.boots)
	if err != nil {
		t.Fatal(err)
	}
	if boot.Release != a.Plan.Version || boot.Trouble != "" {
		t.Errorf("boot %d: runs %s instead of %s, trouble %q", g.boots, boot.Release, a.Plan.Version, boot.Trouble)
	}
	t.Logf("boot %d: %s by %s, init at %.2f s", g.boots, boot.Release, a.Plan.Route, boot.InitUptime)
	return boot
}

// TestKernelsStartEachOther goes through both kernels, with and without a change of version, on both routes, in one chain: whatever a jump lost
// would be missing for good.
func TestKernelsStartEachOther(t *testing.T) {
	g := startGuest(t, "")
	before := g.machine(t)
	cmdLine := g.sh(t, "cat /proc/cmdline")
	for n, to := range []hop{{"6.12", ""}, {"6.12", ""}, {"6.1", ""}, {"6.12", kexec.RouteBzImage}, {"6.1", kexec.RouteBzImage}} {
		line := fmt.Sprintf("%s kup.test.hop=%d", cmdLine, n)
		g.jump(t, to, line)
		if got := g.sh(t, "cat /proc/cmdline"); got != line {
			t.Errorf("command line %q, want %q", got, line)
		}
		if diff := cmp.Diff(before, g.machine(t)); diff != "" {
			t.Errorf("hop %d: the machine looks different: %s", n, diff)
		}
	}
}

// TestEFIFirmwareServesEachKernel calls the firmware under each kernel: its variables are read by its own code, which the first kernel
// has moved to virtual addresses for good.
func TestEFIFirmwareServesEachKernel(t *testing.T) {
	g := startGuest(t, "/usr/share/ovmf/OVMF.fd", "efivarfs")
	firmware := func() string {
		return g.sh(t, `mountpoint -q /sys/firmware/efi/efivars || mount -t efivarfs efivarfs /sys/firmware/efi/efivars
			ls /sys/firmware/efi/efivars && cat /sys/firmware/efi/efivars/Boot0* | sha256sum && cat /sys/firmware/efi/runtime-map/*/*`)
	}
	machine, efi := g.machine(t), firmware()
	if !strings.Contains(efi, "BootOrder") {
		t.Fatalf("no EFI variables: %q", efi)
	}
	cmdLine := g.sh(t, "cat /proc/cmdline")
	for _, to := range []hop{{"6.12", ""}, {"6.1", kexec.RouteBzImage}} {
		g.jump(t, to, cmdLine)
		if diff := cmp.Diff(machine, g.machine(t)); diff != "" {
			t.Errorf("boot %d: the machine looks different: %s", g.boots, diff)
		}
		if diff := cmp.Diff(efi, firmware()); diff != "" {
			t.Errorf("boot %d: the firmware answers differently: %s", g.boots, diff)
		}
	}
}

// TestObstaclesAreNamed sets up each obstacle in a guest. The last ones cannot be undone before a reboot.
func TestObstaclesAreNamed(t *testing.T) {
	g := startGuest(t, "")
	good := []string{"-kernel", g.kernel["6.12"], "-initrd", g.initrd["6.12"], "-cmdline", "quiet"}

	a := g.next(t, nil, append([]string{"check"}, good...)...)
	if a.Error != "" || g.sh(t, "cat /sys/kernel/kexec_loaded") != "0" {
		t.Fatalf("check: %+v", a)
	}
	a = g.next(t, nil, append([]string{"load"}, good...)...)
	if a.Error != "" || g.sh(t, "cat /sys/kernel/kexec_loaded") != "1" {
		t.Fatalf("load: %+v", a)
	}
	a = g.next(t, nil, "unload")
	if a.Error != "" || g.sh(t, "cat /sys/kernel/kexec_loaded") != "0" {
		t.Fatalf("unload: %+v", a)
	}

	g.sh(t, "head -c 5000000 "+g.kernel["6.12"]+" > /tmp/cut; truncate -s 700M /tmp/large")
	mountSecurity := "mkdir -p /sys/kernel/security; mountpoint -q /sys/kernel/security || mount -t securityfs securityfs /sys/kernel/security; "
	for _, tt := range []struct {
		name    string
		before  string
		wrapper []string
		args    []string
		want    string
		says    string
	}{
		{"kernel is missing", "", nil, []string{"-kernel", "/no/vmlinuz"}, "ErrBadKernel", "/no/vmlinuz"},
		{"kernel is truncated", "", nil, []string{"-kernel", "/tmp/cut"}, "ErrBadKernel", "truncated"},
		{"initrd is given as kernel", "", nil, []string{"-kernel", g.initrd["6.12"]}, "ErrBadKernel", "no bzImage"},
		{"initrd is missing", "", nil, append(slices.Clone(good), "-initrd", "/no/initrd"), "ErrBadInitrd", "/no/initrd"},
		{"command line is too long", "", nil, append(slices.Clone(good), "-cmdline", strings.Repeat("x", 3000)), "ErrCmdLineTooLong", "3000"},
		{"initrd is larger than memory", "", nil, append(slices.Clone(good), "-initrd", "/tmp/large"), "ErrNoMemory", "/tmp/large"},
		{"ordinary user", "", []string{"su", "-s", "/bin/sh", "nobody", "-c", `exec "$0" "$@"`, "--"}, good[:2], "ErrPermission", "CAP_SYS_BOOT"},
		{"container", "", []string{"unshare", "-p", "-f"}, good, "ErrPermission", "container"},
		{"lockdown", mountSecurity + "echo integrity > /sys/kernel/security/lockdown", nil, good, "ErrLockdown", "Secure Boot"},
		{"sysctl", "echo 1 > /proc/sys/kernel/kexec_load_disabled", nil, good, "ErrDisabled", "reboot"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.before != "" {
				g.sh(t, tt.before)
			}
			a := g.next(t, tt.wrapper, append([]string{"load"}, tt.args...)...)
			if !slices.Equal(a.Sentinels, []string{tt.want}) || !strings.Contains(a.Error, tt.says) {
				t.Errorf("%v: %s; want %s and %q", a.Sentinels, a.Error, tt.want, tt.says)
			}
			if g.sh(t, "cat /sys/kernel/kexec_loaded") != "0" {
				t.Error("something was loaded")
			}
		})
	}
}
