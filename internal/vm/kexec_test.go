package vm_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/kup-project/kup/internal/vm"
	"github.com/kup-project/kup/internal/vm/vmtest"
)

// The same programs, built once, must be the same files under both kernels; and the agent must be found again after each
// kexec, there and back.
func TestAgentAndFilesSurviveKexec(t *testing.T) {
	root := vm.Initramfs{
		Kernel: vmtest.Kernel(t, "6.1"), Init: vmtest.Build(t, "./cmd/guest-init"),
		Programs: []string{"/usr/bin/memcached"},
		Files:    map[string]string{"/bin/next-kernel": vmtest.Build(t, "./internal/vm/testdata/next-kernel")},
	}
	next := root
	next.Kernel = vmtest.Kernel(t, "6.12")
	disk := t.TempDir()
	type bootFiles struct{ release, kernel, initrd string }
	var files []bootFiles
	for _, i := range []vm.Initramfs{root, next} {
		kernel, initrd, err := vm.WriteBootFiles(disk, i)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, bootFiles{i.Kernel.Release, kernel, initrd})
	}
	log := filepath.Join(t.TempDir(), "console.log")
	g := vmtest.Start(t, vm.Config{
		Kernel: root.Kernel, Initramfs: vmtest.Initramfs(t, root), Disk: vmtest.Disk(t, 256, disk), Log: log, Net: vmtest.Net(t),
	})
	const identify = "sha256sum /proc/self/exe $(busybox which memcached) /usr/lib/x86_64-linux-gnu/libc.so.6 && " +
		"find / -xdev -type f ! -path '/lib/modules/*' ! -path '/usr/lib/modules/*' ! -path /etc/kup-guest/modules -exec stat -c '%n %a %u %s %Y' {} + | sort"
	before, err := g.Output(t.Context(), "sh", "-c", identify)
	if err != nil {
		t.Fatal(err)
	}
	for n, to := range []bootFiles{files[1], files[0], files[1]} {
		r, err := g.Run(t.Context(), "next-kernel", to.kernel, to.initrd)
		if !errors.Is(err, vm.ErrRebooted) {
			t.Fatalf("kexec into %s: %+v, %v; want ErrRebooted", to.release, r, err)
		}
		boot, err := g.WaitBoot(t.Context(), n+2)
		if err != nil {
			t.Fatal(err)
		}
		if boot.Release != to.release || boot.Trouble != "" {
			t.Errorf("boot %d: release %s, trouble %q; want %s and none", boot.Number, boot.Release, boot.Trouble, to.release)
		}
		t.Logf("boot %d: init at %.2f s, ready at %.2f s of its uptime", boot.Number, boot.InitUptime, boot.ReadyUptime)
		after, err := g.Output(t.Context(), "sh", "-c", identify)
		if err != nil {
			t.Fatal(err)
		}
		if after != before {
			t.Errorf("files under %s differ from those before:\n%s\nbefore:\n%s", to.release, after, before)
		}
	}
	if text, err := os.ReadFile(log); err != nil || len(text) == 0 {
		t.Errorf("console log: %d bytes, %v", len(text), err)
	}
}
