package vm_test

import (
	"strings"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/vm"
	"github.com/kup-project/kup/internal/vm/vmtest"
)

func TestGuestBootsAndRunsCommands(t *testing.T) {
	for _, line := range []string{"6.1", "6.12"} {
		t.Run(line, func(t *testing.T) {
			k := vmtest.Kernel(t, line)
			began := time.Now()
			initrd := vmtest.Initramfs(t, vm.Initramfs{Kernel: k})
			t.Logf("initramfs: %v", time.Since(began))
			began = time.Now()
			g := vmtest.Start(t, vm.Config{Kernel: k, Initramfs: initrd})
			t.Logf("boot: %v", time.Since(began))
			for _, m := range g.Marks() {
				t.Logf("%v %s %.2f", m.At.Sub(began), m.What, m.Uptime)
			}
			r, err := g.Run(t.Context(), "sh", "-c", "echo out; echo err >&2; exit 3")
			if want := (vm.Result{Stdout: "out\n", Stderr: "err\n", ExitCode: 3}); err != nil || r != want {
				t.Errorf("Run: %+v, %v; want %+v", r, err, want)
			}
			release, err := g.Output(t.Context(), "uname", "-r")
			if err != nil || strings.TrimSpace(release) != k.Release {
				t.Errorf("uname -r: %q, %v; want %s", release, err, k.Release)
			}
		})
	}
}
