package kmod_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kup-project/kup/internal/kmod"
	"github.com/kup-project/kup/internal/vm"
	"github.com/kup-project/kup/internal/vm/vmtest"
)

// options are those for a kernel of a line.
func options(t *testing.T, line string) kmod.Options {
	t.Helper()
	k := vmtest.Kernel(t, line)
	headers, err := vm.FindHeaders(k)
	if err != nil {
		t.Fatal(err)
	}
	return kmod.Options{Release: k.Release, Image: k.Image, Headers: headers, Out: filepath.Join(t.TempDir(), "module.ko")}
}

func TestModuleIsBuiltAndCheckedForEachKernel(t *testing.T) {
	for _, line := range []string{"6.1", "6.12"} {
		o := options(t, line)
		report, err := kmod.Build(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if report.Path != o.Out || report.Release != o.Release || !strings.HasPrefix(report.VerMagic, o.Release+" ") || len(report.Notes) != 0 {
			t.Errorf("%+v", report)
		}
		for _, name := range []string{"mfill_atomic_install_pte", "__mem_cgroup_charge", "pidfd_get_pid"} {
			if !slices.Contains(report.Checked, name) {
				t.Errorf("%s: %s was not looked for: %v", line, name, report.Checked)
			}
		}
		if _, err := os.Stat(o.Out); err != nil {
			t.Error(err)
		}
	}
}

func TestHeadersOfAnotherKernelAreRefused(t *testing.T) {
	o := options(t, "6.12")
	other := options(t, "6.1")
	o.Headers = other.Headers
	if _, err := kmod.Build(t.Context(), o); !errors.Is(err, kmod.ErrUnfit) || !strings.Contains(err.Error(), other.Release) {
		t.Error(err)
	}
	if _, err := os.Stat(o.Out); err == nil {
		t.Error("the module is there, nevertheless")
	}
	o.Headers = t.TempDir()
	if _, err := kmod.Build(t.Context(), o); !errors.Is(err, kmod.ErrNoHeaders) {
		t.Error(err)
	}
}

func TestWhatCannotBeCheckedIsSaid(t *testing.T) {
	o := options(t, "6.1")
	o.Image = "" // and Debian's headers of 6.1 have no vmlinux
	report, err := kmod.Build(t.Context(), o)
	if err != nil || len(report.Notes) != 1 || len(report.Checked) != 0 {
		t.Errorf("%+v, %v", report, err)
	}
}
