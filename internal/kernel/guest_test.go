package kernel_test

import (
	"os"
	"strings"
	"testing"

	"github.com/kup-project/kup/internal/vm"
	"github.com/kup-project/kup/internal/vm/vmtest"
)

// TestKeepersInGuests repeats the tests of keepers on the kernels that kup is for: how a killed thread stops at its exit is the kernel's affair.
func TestKeepersInGuests(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"6.1", "6.12"} {
		t.Run(line, func(t *testing.T) {
			// As a program it brings libraries, if it needs some; but the guest hides /tmp, where it may be.
			k := vmtest.Kernel(t, line)
			initrd := vmtest.Initramfs(t, vm.Initramfs{Kernel: k, Files: map[string]string{"/bin/kernel.test": self}, Programs: []string{self}})
			g := vmtest.Start(t, vm.Config{Kernel: k, Initramfs: initrd})
			out := vmtest.Shell(t, g, "kernel.test -test.short -test.v -test.run '^(TestTraceesNeverSeeWhatWillsPutRight|TestKeptThreadTakesSignals)$'")
			if strings.Count(out, "--- PASS") != 2 {
				t.Error(out)
			}
		})
	}
}
