package frames_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kup-project/kup/internal/kexec"
	"github.com/kup-project/kup/internal/vm"
	"github.com/kup-project/kup/internal/vm/vmtest"
)

// answer is what testdata/room prints.
type answer struct {
	Error     string
	NoSlice   bool
	Seconds   float64
	Blocks    kexec.Ranges
	Pages     map[string]uint64
	Runs      int
	Same      bool
	Moved     uint64
	Scan      float64
	Again     float64
	Compared  uint64
	Different []string
	Before    uint64
	After     uint64
}

// guest is a guest with 1.5 GB of memory, in which test/programs/memory/crowd.c runs several times, everywhere in it.
type guest struct {
	*vm.Guest
	pids []string // of the programs
}

const (
	crowds  = 4
	crowdMB = 64
)

func startGuest(t *testing.T, line string) *guest {
	t.Helper()
	files := map[string]string{"/bin/room": vmtest.Build(t, "./internal/frames/testdata/room")}
	for _, name := range []string{"crowd", "pins", "swapped"} {
		out := filepath.Join(t.TempDir(), name)
		gcc := exec.CommandContext(t.Context(), "gcc", "-O1", "-pthread", "-static", "-o", out, "../../test/programs/memory/"+name+".c")
		if text, err := gcc.CombinedOutput(); err != nil {
			t.Fatalf("gcc: %v: %s", err, text)
		}
		files["/bin/"+name] = out
	}
	k := vmtest.Kernel(t, line)
	initrd := vmtest.Initramfs(t, vm.Initramfs{Kernel: k, Files: files})
	g := &guest{Guest: vmtest.Start(t, vm.Config{Kernel: k, Initramfs: initrd, Disk: vmtest.Disk(t, 64, ""), MemoryMB: 1536})}
	// Files that are gone afterwards keep the programs apart, so that there is hardly a memory block without any of them.
	g.sh(t, "mkdir /run/apart; mount -t tmpfs -o size=100% apart /run/apart")
	for n := range crowds {
		g.sh(t, fmt.Sprintf("setsid crowd /run/crowd%d.log /run/finish %d >/dev/null 2>&1 </dev/null &", n, crowdMB))
		g.until(t, fmt.Sprintf("grep -q ready /run/crowd%d.log", n))
		g.sh(t, fmt.Sprintf("dd if=/dev/zero of=/run/apart/%d bs=1M count=220 2>/dev/null", n))
	}
	g.sh(t, "umount /run/apart")
	g.pids = strings.Fields(g.sh(t, "pidof crowd"))
	return g
}

// sh returns the output of a shell command in the guest.
func (g *guest) sh(t *testing.T, command string) string {
	t.Helper()
	return vmtest.Shell(t, g.Guest, command)
}

// until waits until a shell command succeeds.
func (g *guest) until(t *testing.T, command string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		r, err := g.Run(t.Context(), "sh", "-c", command)
		if err != nil {
			t.Fatal(err)
		}
		if r.ExitCode == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within two minutes", command)
		}
	}
}

// room returns the answer of testdata/room, whose arguments may go on as a shell command.
func (g *guest) room(t *testing.T, args string) answer {
	t.Helper()
	return parse(t, g.sh(t, "PATIENCE=2s room "+args))
}

func parse(t *testing.T, text string) (a answer) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return a
}

// holder begins to hold a slice; release ends that, or kill.
func (g *guest) holder(t *testing.T, megabytes uint64) {
	t.Helper()
	g.sh(t, fmt.Sprintf("rm -f /run/hold; mkfifo /run/hold; rm -f /run/held; (sleep 10000 >/run/hold & echo $! >/run/sleeper; "+
		"exec setsid room hold /run/kup %d </run/hold >/run/held 2>&1) >/dev/null 2>&1 & sleep 0.1", megabytes))
}

func (g *guest) held(t *testing.T) answer {
	t.Helper()
	g.until(t, "test -s /run/held")
	return parse(t, g.sh(t, "head -1 /run/held"))
}

func (g *guest) release(t *testing.T) {
	t.Helper()
	g.sh(t, "kill $(cat /run/sleeper)")
	g.until(t, "! pidof room")
	if left := g.sh(t, "tail -n +2 /run/held; ls -A /run/kup"); left != "" {
		t.Errorf("release: %s", left)
	}
}

// machine is what must be as before afterwards.
func (g *guest) machine(t *testing.T) string {
	t.Helper()
	return g.sh(t, `grep MemTotal /proc/meminfo
		cd /sys/devices/system/memory && grep . memory*/state memory*/valid_zones
		cd /proc/sys/vm && grep . compact_unevictable_allowed compaction_proactiveness watermark_boost_factor swappiness
		cat /proc/sys/kernel/numa_balancing
		cd /sys/kernel/mm && grep . transparent_hugepage/enabled transparent_hugepage/defrag ksm/run`)
}

// scan stops the program, scans it, and checks that each page is in the frame that the scan says.
func (g *guest) scan(t *testing.T) answer {
	t.Helper()
	a := g.room(t, "scan "+strings.Join(g.pids, " "))
	if a.Error != "" || !a.Same || a.Moved != 0 || len(a.Different) != 0 {
		t.Errorf("scan: %+v", a)
	}
	const mb = crowds * crowdMB
	// A third is in huge pages, as far as there were any, and three quarters of the third that is inherited stay shared.
	if pages := a.Pages["small"] + a.Pages["huge"] + a.Pages["shared"]; pages < mb<<8 || pages > 2*mb<<8 || a.Compared < pages/8 {
		t.Errorf("%d pages of %d were compared: %v", a.Compared, pages, a.Pages)
	}
	if want := uint64(mb << 8 / 3 * 6 / 10); a.Pages["shared"] < want || a.Pages["huge"] == 0 || a.Pages["swapped"] != 0 {
		t.Errorf("kinds of pages: %v", a.Pages)
	}
	t.Logf("%v pages in %d runs: scan %.3f s, again %.3f s, all %.1f s", a.Pages, a.Runs, a.Scan, a.Again, a.Seconds)
	return a
}

func TestRoomIsMadeBesideAnApplication(t *testing.T) {
	for _, line := range []string{"6.1", "6.12"} {
		t.Run(line, func(t *testing.T) {
			g := startGuest(t, line)
			before := g.machine(t)
			g.holder(t, 384)
			a := g.held(t)
			if a.Error != "" || a.Blocks.Size() != 384<<20 {
				t.Fatalf("slice: %+v", a)
			}
			t.Logf("a slice of %v in %.1f s", a.Blocks, a.Seconds)
			if quiet := g.machine(t); !strings.Contains(quiet, "offline") || !strings.Contains(quiet, "[never]") {
				t.Errorf("with a slice: %s", quiet)
			}
			g.scan(t)
			g.release(t)
			g.as(t, "released", before)

			for _, moment := range []string{"test -s /run/held", "grep -q offline /sys/devices/system/memory/memory*/state", "test -e /run/kup/quiet.json"} {
				g.holder(t, 384)
				g.until(t, moment)
				g.sh(t, "kill -9 $(pidof room); kill $(cat /run/sleeper)")
				if a := g.room(t, "recover /run/kup"); a.Error != "" {
					t.Errorf("recovery: %s", a.Error)
				}
				g.as(t, "killed when "+moment, before)
			}

			migrated := g.counted(t, "pgmigrate_success")
			a = g.room(t, "shift /run/kup 512 "+strings.Join(g.pids, " ")+" </dev/null")
			if a.Error != "" || a.Before == 0 || a.After != 0 || a.Moved < a.Before || len(a.Different) > 0 {
				t.Errorf("stopped processes: %+v", a)
			}
			t.Logf("%d pages were in the slice, and %d have moved, in %.1f s", a.Before, a.Moved, a.Seconds)
			// What a program and its two children have in common moves once for all of them.
			if migrated = g.counted(t, "pgmigrate_success") - migrated; 3*migrated < a.Moved {
				t.Errorf("the kernel says that it has moved %d pages, and %d are elsewhere", migrated, a.Moved)
			}

			g.refuses(t)
			g.as(t, "refused", before)
			g.sh(t, "touch /run/finish")
			g.until(t, "! pidof crowd")
			if log := g.sh(t, "cat /run/crowd*.log"); strings.Contains(log, "FAIL") || strings.Count(log, "\nok") != crowds {
				t.Errorf("the programs: %s", log)
			}
			g.swaps(t)
		})
	}
}

// counted is the sum of counters of the guest's /proc/vmstat, those that its kernel has.
func (g *guest) counted(t *testing.T, names ...string) (sum uint64) {
	t.Helper()
	for _, name := range names {
		var n uint64
		if text := g.sh(t, "sed -n 's/^"+name+" //p' /proc/vmstat"); text != "" {
			if _, err := fmt.Sscan(text, &n); err != nil {
				t.Fatalf("%s: %q: %v", name, text, err)
			}
		}
		sum += n
	}
	return sum
}

// as checks that the machine is what it was.
func (g *guest) as(t *testing.T, when, before string) {
	t.Helper()
	if diff := cmp.Diff(before, g.machine(t)); diff != "" {
		t.Errorf("%s: %s", when, diff)
	}
}

// refuses has slices that are too large asked for.
func (g *guest) refuses(t *testing.T) {
	t.Helper()
	for _, tt := range []struct {
		name      string
		megabytes int
		before    string
		says      string
		after     string
	}{
		{
			"pinned everywhere", 640, "setsid pins /run/pins.log /run/unpin 640 >/dev/null 2>&1 </dev/null & " +
				"until grep -q ready /run/pins.log; do sleep 0.2; done", "not empty within 2s",
			"touch /run/unpin; while pidof pins; do sleep 0.1; done; grep -q ok /run/pins.log",
		},
		{"more than there is", 1300, "true", "MB of memory are available, and it takes 1664 MB", "true"},
		{
			"full", 384, "mkdir -p /run/full; mount -t tmpfs -o size=95% full /run/full; " +
				"fallocate -l $(($(grep MemAvailable /proc/meminfo | tr -dc 0-9) / 1024 - 500))m /run/full/file",
			"MB of memory are available, and it takes 640 MB, of which 256 MB are for the applications", "umount /run/full",
		},
	} {
		g.sh(t, tt.before)
		a := g.room(t, fmt.Sprintf("hold /run/kup %d </dev/null", tt.megabytes))
		t.Logf("%s: %s, in %.1f s", tt.name, a.Error, a.Seconds)
		if !a.NoSlice || !strings.Contains(a.Error, tt.says) {
			t.Errorf("%s: %+v", tt.name, a)
		}
		g.sh(t, tt.after)
	}
}

// swaps scans a program whose memory is swapped out, and again when it is back.
func (g *guest) swaps(t *testing.T) {
	t.Helper()
	g.sh(t, "dd if=/dev/zero of=/data/swap bs=1M count=32 2>/dev/null; mkswap /data/swap; swapon /data/swap")
	written := []string{"pswpout", "zswpout", "swpout_zero"}
	before := g.counted(t, written...)
	g.sh(t, "rm /run/finish; setsid swapped /run/swapped.log /run/finish 8 >/dev/null 2>&1 </dev/null &")
	g.until(t, "grep -q ready /run/swapped.log")
	if n := g.counted(t, written...) - before; n < 1024 {
		t.Errorf("the kernel says that %d pages were swapped out", n)
	}
	for _, tt := range []struct {
		before  string
		swapped bool
	}{{"true", true}, {"swapoff /data/swap", false}} {
		g.sh(t, tt.before)
		a := g.room(t, "scan $(pidof swapped)")
		if a.Error != "" || !a.Same || len(a.Different) > 0 || (a.Pages["swapped"] > 1024) != tt.swapped || !tt.swapped && (a.Pages["swapped"] > 0 || a.Pages["small"]+a.Pages["huge"] < 2048) {
			t.Errorf("after %s: %+v", tt.before, a)
		}
		t.Logf("after %s: %v", tt.before, a.Pages)
	}
	g.sh(t, "touch /run/finish; while pidof swapped; do sleep 0.1; done; grep -q ok /run/swapped.log")
}
