package main

import (
	"encoding/json"
	"testing"

	"github.com/kup-project/kup"
	"github.com/kup-project/kup/internal/vm"
	"github.com/kup-project/kup/internal/vm/vmtest"
)

// TestCheckKnowsDebiansKernels runs kup check where it is known what a kernel can do.
func TestCheckKnowsDebiansKernels(t *testing.T) {
	const present, absent = kup.Present, kup.Absent
	program := vmtest.Build(t, "./cmd/kup")
	for _, test := range []struct {
		line     string
		precopy  string
		features map[string]string
	}{
		{"6.1", "soft-dirty", map[string]string{
			"PAGEMAP_SCAN": absent, "UFFD_FEATURE_WP_ASYNC": absent, "soft-dirty bits": present, "MAP_DROPPABLE": absent,
			"MADV_GUARD_INSTALL": absent, "PR_TIMER_CREATE_RESTORE_IDS": absent, "userfaultfd": present, "time namespaces": present,
			"PTRACE_GET_RSEQ_CONFIGURATION": present, "kexec_load": present, "kexec_file_load": present, "CAP_SYS_RESOURCE": present,
			"Live Update Orchestrator": absent,
		}},
		{"6.12", "WP_ASYNC", map[string]string{
			"PAGEMAP_SCAN": present, "UFFD_FEATURE_WP_ASYNC": present, "soft-dirty bits": present, "MAP_DROPPABLE": present,
			"MADV_GUARD_INSTALL": absent, "PR_TIMER_CREATE_RESTORE_IDS": absent, "userfaultfd": present, "time namespaces": present,
			"PTRACE_GET_RSEQ_CONFIGURATION": present, "kexec_load": present, "kexec_file_load": present, "CAP_SYS_RESOURCE": present,
			"Live Update Orchestrator": absent,
		}},
	} {
		t.Run(test.line, func(t *testing.T) {
			kernel := vmtest.Kernel(t, test.line)
			g := vmtest.Start(t, vm.Config{Kernel: kernel, Initramfs: vmtest.Initramfs(t, vm.Initramfs{
				Kernel: kernel, Files: map[string]string{"/bin/kup": program},
			})})
			result, err := g.Run(t.Context(), "kup", "check", "--json")
			if err != nil {
				t.Fatal(err)
			}
			if result.ExitCode != 0 {
				t.Errorf("exit code %d: %s", result.ExitCode, result.Stderr)
			}
			var report kup.CheckReport
			if err := json.Unmarshal([]byte(result.Stdout), &report); err != nil {
				t.Fatalf("%v in %s", err, result.Stdout)
			}
			if report.Kernel != kernel.Release {
				t.Errorf("it says %s on %s", report.Kernel, kernel.Release)
			}
			for _, f := range report.Features {
				if want, ok := test.features[f.Name]; ok && f.State != want {
					t.Errorf("%s is %s, want %s (%s)", f.Name, f.State, want, f.Problem)
				}
				if f.State == kup.Unclear {
					t.Error(f.Problem)
				}
			}
			for _, j := range report.Jobs {
				if !j.Possible {
					t.Errorf("%s is not possible: %q", j.Name, j.Missing)
				}
				if j.Name == "pre-copy" && j.Way != test.precopy {
					t.Errorf("pre-copy by %s, want %s", j.Way, test.precopy)
				}
			}
		})
	}
}
