package kexec

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHasFlagReadsTheFirstCPU(t *testing.T) {
	const cpuinfo = "processor\t: 0\nvmx flags\t: ept\nflags\t\t: fpu la57x avx2 pku\n\nprocessor\t: 1\nflags\t\t: fpu la57\n"
	for flag, want := range map[string]bool{"fpu": true, "avx2": true, "pku": true, "la57": false, "la57x": true, "ept": false} {
		if got := hasFlag(cpuinfo, flag); got != want {
			t.Errorf("%s: %t", flag, got)
		}
	}
	if hasFlag("", "fpu") {
		t.Error("no CPU has a flag")
	}
}

func TestLockdownModes(t *testing.T) {
	for mode, want := range map[string]bool{
		"[none] integrity confidentiality": false,
		"none [integrity] confidentiality": true,
		"none integrity [confidentiality]": true,
		"":                                 false,
	} {
		if got := lockedDown(mode); got != want {
			t.Errorf("%q: %t", mode, got)
		}
	}
}

func TestCapabilityIsReadFromTheEffectiveSet(t *testing.T) {
	const with, without = "CapEff:\t0000000000400000\n", "CapEff:\t000001ffffbfffff\n"
	for _, tt := range []struct {
		status string
		want   bool
	}{
		{"CapPrm:\t0000000000000000\n" + with, true},
		{"CapPrm:\t000001ffffffffff\n" + without, false},
		{"CapEff:\tnonsense\n", false},
		{"", false},
	} {
		if got := hasCapability(tt.status, capSysBoot); got != tt.want {
			t.Errorf("%q: %t", tt.status, got)
		}
	}
}

func TestRoomForTheSegments(t *testing.T) {
	segments := []Segment{{Range: Range{0, 60 << 20}}, {Range: Range{1 << 30, 1<<30 + 40<<20}}}
	for _, tt := range []struct {
		name, meminfo string
		ok            bool
	}{
		{"enough", "MemTotal:  1000000 kB\nMemFree: 1 kB\nMemAvailable:  200000 kB\n", true},
		{"more than half of all", "MemTotal:  200000 kB\nMemAvailable:  190000 kB\n", false},
		{"in use", "MemTotal:  1000000 kB\nMemAvailable:  100000 kB\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := parseRoom(tt.meminfo)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.check(segments); (err == nil) != tt.ok || (err != nil && !errors.Is(err, ErrNoMemory)) {
				t.Error(err)
			}
		})
	}
	if _, err := parseRoom("MemTotal: 5 kB\n"); err == nil {
		t.Error("MemAvailable is missing, and nobody noticed")
	}
}

func TestCommandLineMustFit(t *testing.T) {
	for _, tt := range []struct {
		name, line string
		is         error
		ok         bool
	}{
		{"empty", "", nil, true},
		{"as long as can be", strings.Repeat("a", 2047), nil, true},
		{"one byte more", strings.Repeat("a", 2048), ErrCmdLineTooLong, false},
		{"two lines", "quiet\n", nil, false},
		{"zero byte", "quiet\x00splash", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := checkCmdLine(tt.line, 2047)
			if (err == nil) != tt.ok || (tt.is != nil && !errors.Is(err, tt.is)) {
				t.Error(err)
			}
		})
	}
}

func TestInitrdMustBeReadable(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{empty, "/no/such/initrd", t.TempDir()} {
		if _, err := readInitrd(path, 1<<30); !errors.Is(err, ErrBadInitrd) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readInitrd(large, 1999); !errors.Is(err, ErrNoMemory) || !strings.Contains(err.Error(), large) {
		t.Error(err)
	}
	if data, err := readInitrd("", 1<<30); data != nil || err != nil {
		t.Errorf("no initrd wanted: %d bytes, %v", len(data), err)
	}
}

func TestErrorsOfTheKernelMatchSentinels(t *testing.T) {
	for _, tt := range []struct{ err, want error }{
		{fs.ErrPermission, ErrPermission},
		{errors.ErrUnsupported, ErrNoKexec},
	} {
		if err := explain(tt.err); !errors.Is(err, tt.want) || !errors.Is(err, tt.err) {
			t.Errorf("%v", err)
		}
	}
	if err := explain(nil); err != nil {
		t.Error(err)
	}
}

// TestCheckReportsAllObstaclesAtOnce asks for files that do not exist, on this very machine.
func TestCheckReportsAllObstaclesAtOnce(t *testing.T) {
	plan, err := Check(Options{Kernel: "/no/such/vmlinuz", Initrd: "/no/such/initrd"})
	if plan != nil || !errors.Is(err, ErrBadKernel) || !errors.Is(err, ErrBadInitrd) {
		t.Errorf("%+v, %v", plan, err)
	}
	// A machine whose kernel has no kexec is told so in the same breath.
	_, statErr := os.Stat(loadedFile)
	if without := errors.Is(statErr, fs.ErrNotExist); errors.Is(err, ErrNoKexec) != without {
		t.Errorf("%s: %v, but Check says: %v", loadedFile, statErr, err)
	}
}

func TestJumpWithoutAKernelIsRefused(t *testing.T) {
	if Loaded() {
		t.Fatal("this machine has a kernel loaded for kexec; unload it (kexec -u) to run the tests")
	}
	if err := Jump(); !errors.Is(err, ErrNotLoaded) {
		t.Error(err)
	}
}
