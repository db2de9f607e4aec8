package kernel

import (
	"errors"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestErrorsOfFeatures(t *testing.T) {
	for _, test := range []struct {
		feature *Feature
		cause   error
		text    string
		is      error
	}{
		{&Feature{Name: "X", Since: "6.7"}, ENOSYS, "X not supported (requires >= v6.7)", ErrNotSupported},
		{&Feature{Name: "X", Since: "6.7"}, &os.PathError{Op: "open", Path: "/x", Err: ENOENT}, "X not supported (requires >= v6.7)", ErrNotSupported},
		{&Feature{Name: "X", Since: "3.11", Option: "CONFIG_X"}, ENOTTY, "X not supported (requires >= v3.11 with CONFIG_X)", ErrNotSupported},
		{&Feature{Name: "X", Since: "3.11", Needs: "CAP_X"}, EPERM, "X not permitted (requires CAP_X)", ErrNotPermitted},
		{&Feature{Name: "X", Since: "3.11"}, EACCES, "X not permitted (permission denied)", ErrNotPermitted},
		{&Feature{Name: "X", Since: "3.11"}, ENOMEM, "X: the test failed: cannot allocate memory", ENOMEM},
	} {
		calls := 0
		test.feature.probe = func() error { calls++; return test.cause }
		for range 2 {
			err := test.feature.Err()
			if err == nil || err.Error() != test.text {
				t.Errorf("%v: %v; want %s", test.cause, err, test.text)
			}
			if !errors.Is(err, test.is) || !errors.Is(err, test.cause) {
				t.Errorf("%q does not match %v and %v", err, test.is, test.cause)
			}
		}
		if calls != 1 {
			t.Errorf("%v: tried %d times", test.cause, calls)
		}
	}
}

func TestFeaturesAreComplete(t *testing.T) {
	listed := map[*Feature]bool{}
	names := map[string]bool{}
	for _, f := range Features() {
		if listed[f] || names[f.Name] {
			t.Errorf("%s is listed twice", f.Name)
		}
		listed[f], names[f.Name] = true, true
		if f.Use == "" || f.How == "" || f.probe == nil || !regexp.MustCompile(`^\d+\.\d+(\.\d+)?$`).MatchString(f.Since) {
			t.Errorf("%s is not fully described", f.Name)
		}
	}
	for _, j := range Jobs {
		for _, w := range j.Ways {
			for _, n := range w.Needs {
				if !listed[n.Feature] {
					t.Errorf("%s needs %s, which Features does not list", j.Name, n.Name)
				}
			}
		}
	}
}

// TestProbesTellTheTruth compares probes with other traces that the feature leaves in the running kernel.
func TestProbesTellTheTruth(t *testing.T) {
	for _, f := range Features() {
		if err := f.Err(); err != nil && !errors.Is(err, ErrNotSupported) && !errors.Is(err, ErrNotPermitted) {
			t.Error(err)
		}
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	kexec := exists(t, "/sys/kernel/kexec_loaded")
	for _, test := range []struct {
		feature *Feature
		present bool
		trace   string
	}{
		// fs/proc/task_mmu.c, show_smap_vma_flags: new mappings count as dirty, where there are such bits.
		{FeatureSoftDirty, regexp.MustCompile(`(?m)^VmFlags:.* sd( |$)`).Match(smaps), "the flag sd in /proc/self/smaps"},
		{FeaturePagemapScan, atLeast(t, 6, 7), "the kernel's version"},
		{FeatureGuard, atLeast(t, 6, 13), "the kernel's version"},
		{FeatureDroppable, atLeast(t, 6, 11), "the kernel's version"},
		{FeatureTimerIDs, atLeast(t, 6, 15), "the kernel's version"},
		{FeatureTimeNS, exists(t, "/proc/self/ns/time"), "/proc/self/ns/time"},
		{FeatureLiveUpdate, exists(t, "/dev/liveupdate"), "/dev/liveupdate"},
		{FeatureShmNextID, exists(t, "/proc/sys/kernel/shm_next_id"), "/proc/sys/kernel/shm_next_id"},
	} {
		if got := test.feature.Err() == nil; got != test.present {
			t.Errorf("%s: present is %v, but %s says %v: %v", test.feature.Name, got, test.trace, test.present, test.feature.Err())
		}
	}
	if kexec == (errors.Is(FeatureKexecLoad.Err(), ErrNotSupported) && errors.Is(FeatureKexecFileLoad.Err(), ErrNotSupported)) {
		t.Errorf("/sys/kernel/kexec_loaded: %v; but kexec_load: %v, kexec_file_load: %v", kexec, FeatureKexecLoad.Err(), FeatureKexecFileLoad.Err())
	}
}

// TestProbesLeaveNothing counts what a probe could leave behind.
func TestProbesLeaveNothing(t *testing.T) {
	before := count(t, "/proc/self/fd")
	for _, f := range Features() {
		_ = f.probe()
	}
	if after := count(t, "/proc/self/fd"); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	children, err := os.ReadFile("/proc/thread-self/children")
	if err == nil && len(children) != 0 {
		t.Errorf("children are left: %s", children)
	}
}

func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Stat(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

func count(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func atLeast(t *testing.T, major, minor int) bool {
	t.Helper()
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.SplitN(string(release), ".", 3)
	var have [2]int
	for i := range have {
		if have[i], err = strconv.Atoi(parts[i]); err != nil {
			t.Fatalf("release %q: %v", release, err)
		}
	}
	return have[0] > major || have[0] == major && have[1] >= minor
}
