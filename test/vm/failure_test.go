package vm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kup-project/kup/internal/vm/trial"
	"github.com/kup-project/kup/internal/vm/vmtest"
)

const (
	exitFailed  = 1
	exitStopped = 6
	exitUsage   = 2
	exitRefused = 3
)

// TestFailingUpdatesLeaveApplicationsAlone lets updates fail at each of their steps. The programs check themselves all the time.
func TestFailingUpdatesLeaveApplicationsAlone(t *testing.T) {
	static := []string{"-static"}
	survivors := []program{
		{name: "basic", source: "task/basic.c", flags: static}, {name: "tcppair", source: "net/tcppair.c", flags: static},
	}
	pipes := program{name: "pipes", source: "memory/pipes.c", flags: static}
	files := build(t, append([]program{pipes}, survivors...))
	buildModules(t, files, "6.1", "6.12")
	files["/bin/next"] = vmtest.Build(t, "./internal/kexec/testdata/next")
	addDAX(t, files, "6.12")
	g := start(t, trial.Config{Files: files, MemoryMB: 2048})
	for _, p := range survivors {
		p.start(t, g)
		p.stepBack(t, g)
	}
	pids := must(t, g, "sh", "-c", "kup ps --json | grep '\"pid\"'")
	good := fmt.Sprintf("kup update --kernel %s --initrd %s", g.Kernel["6.12"], g.Initrd["6.12"])

	inPlace := " --carrier frames --module " + module("6.12")
	// It is nobody's concern. Each block gets memory that cannot be moved.
	fixed := fmt.Sprintf("setsid %s /run/pipes.log /run/over $(($(grep MemAvailable /proc/meminfo | tr -dc 0-9) / 1024 - 100)) >/dev/null 2>&1 </dev/null & "+
		"until grep ready /run/pipes.log; do sleep 0.2; done", pipes.path())
	const over = "touch /run/over; while pidof pipes; do sleep 0.1; done; ! grep FAIL /run/pipes.log && rm -f /run/over /run/pipes.log"
	const asBefore = " && ! grep -q offline /sys/devices/system/memory/memory*/state && test $(cat /proc/sys/vm/compact_unevictable_allowed) = 1"

	for _, tt := range []struct {
		name    string
		before  string
		command string
		code    int
		says    string // on standard output or error
		after   string
	}{
		{"dry run", "", good + " --dry-run", 0, "tcppair", ""},
		{"garbage for a kernel", "head -c 9000000 /dev/urandom >/data/garbage", "kup update --kernel /data/garbage", exitFailed, "no bzImage", "rm /data/garbage"},
		{"no kernel", "", "kup update --kernel /nowhere", exitFailed, "/nowhere", ""},
		{
			"an application that cannot be taken along",
			"kup run -d --name unlucky -- sh -c 'exec 5>/tmp/file; exec sleep 10000'; sleep 1", good, exitRefused, "unlucky",
			"kill $(kup ps --json | grep -A1 unlucky | tr -dc 0-9); sleep 1; kup rm unlucky",
		},
		// On "frozen" the loaded kernel is taken away, so that the jump fails.
		{"the jump", "", whenItSays("frozen", "next unload", good), exitFailed, "no kernel is loaded", ""},
		{"kup is told to stop when the kernel is loaded", "", whenItSays("loaded", "kill $pid", good), exitStopped, "told to stop", ""},
		{"kup is told to stop when it freezes", "", whenItSays("freeze", "kill $pid", good), exitStopped, "told to stop", ""},
		{"kup is told to stop with memory in place", "", whenItSays("frozen", "kill $pid", good+inPlace), exitStopped, "told to stop", good + inPlace + " --dry-run" + asBefore},
		{"kup is killed when the kernel is loaded", "", whenItSays("loaded", "kill -9 $pid", good), killed, "", ""},
		{"kup is killed when it freezes", "", whenItSays("freeze", "kill -9 $pid", good), killed, "", ""},
		{"kup is killed when all are frozen", "", whenItSays("frozen", "kill -9 $pid", good), killed, "", ""},
		{"kup is killed with memory in frames", "", whenItSays("frozen", "kill -9 $pid", good+" --carrier ram"), killed, "",
			"grep -q 'HugePages_Total: *0$' /proc/meminfo && test $(cat /proc/sys/vm/nr_overcommit_hugepages) = 0"},
		// What is to be written before the jump gives time for it.
		{"kup is killed when its images are complete", "dd if=/dev/zero of=/data/much bs=1M count=200 2>/dev/null",
			"{ sh -c 'echo $$ >/run/kup.pid; exec " + good + " --carrier disk' & running=$!; " +
				"until grep -q '\"switched\"' " + trial.JournalPath + "; do :; done; kill -9 $(cat /run/kup.pid); wait $running; }", killed, "",
			"rm /data/much; until grep -q '\"frozen\"' " + trial.JournalPath + "; do sleep 0.1; done"},
		{"too little memory for frames", "mkdir /run/full && mount -t tmpfs -o size=95% full /run/full && " +
			"fallocate -l $(($(grep MemAvailable /proc/meminfo | tr -dc 0-9) / 1024 - 200))m /run/full/file",
			good + " --carrier ram", exitRefused, "MB of memory are available", "umount /run/full"},
		{"no module", "", good + " --carrier frames=module", exitRefused, "kup module build", ""},
		{"no module at all", "", good + " --carrier frames --module /bin/kup", exitRefused, ".modinfo", ""},
		{"a module for another kernel", "", good + " --carrier frames --module " + module("6.1"), exitRefused, "kup module build", ""},
		{"nothing to fall back to", "", good + " --carrier ram --keep-fallback", exitRefused, "--carrier frames", ""},
		{"kup is killed with memory in place", "", whenItSays("frozen", "kill -9 $pid", good+inPlace), killed, "",
			good + inPlace + " --dry-run" + asBefore},
		{"kup is killed with memory in place, to be copied", "", whenItSays("frozen", "kill -9 $pid", good+" --carrier frames=copy"), killed, "",
			good + " --carrier frames --dry-run | grep frames=copy" + asBefore},
		{"no way to get memory back", "mv /lib/modules /lib/elsewhere", good + " --carrier frames=copy", exitRefused, "dax_hmem", "mv /lib/elsewhere /lib/modules"},
		{"too little memory for the next kernel beside the applications", "mkdir -p /run/full && mount -t tmpfs -o size=95% full /run/full && " +
			"fallocate -l $(($(grep MemAvailable /proc/meminfo | tr -dc 0-9) / 1024 - 400))m /run/full/file",
			good + inPlace, exitRefused, "MB of memory are available", "umount /run/full" + asBefore},
		{"memory that cannot be moved is everywhere", fixed, good + inPlace, exitRefused, "with pages that cannot be moved", over + asBefore},
		{"a carrier that is none", "", good + " --carrier pigeon", exitUsage, "ram", ""},
		{"kexec is disabled", "echo 1 >/proc/sys/kernel/kexec_load_disabled", good, exitFailed, "kexec_load_disabled", ""},
	} {
		ok := t.Run(tt.name, func(t *testing.T) {
			if tt.before != "" {
				must(t, g, "sh", "-c", tt.before)
			}
			r, err := g.Run(t.Context(), "sh", "-c", tt.command)
			if err != nil {
				t.Fatal(err)
			}
			if r.ExitCode != tt.code || !strings.Contains(r.Stdout+r.Stderr, tt.says) {
				t.Errorf("exit code %d, want %d and %q: %s%s", r.ExitCode, tt.code, tt.says, r.Stdout, r.Stderr)
			}
			if tt.after != "" {
				must(t, g, "sh", "-c", tt.after)
			}
			eventually(t, "no kernel to be loaded", func() bool { return must(t, g, "cat", "/sys/kernel/kexec_loaded") == "0\n" })
			for _, p := range survivors {
				p.runsOn(t, g)
			}
			if now := must(t, g, "sh", "-c", "kup ps --json | grep '\"pid\"'"); now != pids {
				t.Errorf("pids: %s, before: %s", now, pids)
			}
			// What a kup that was killed had begun, the next update clears away.
			if left := must(t, g, "sh", "-c", "find /data/kup/images /run/kup/update -name 'manifest*' 2>/dev/null; true"); tt.code != killed && left != "" {
				t.Errorf("images are left behind: %s", left)
			}
		})
		if !ok {
			return
		}
	}
	for _, p := range survivors {
		t.Run(p.name, func(t *testing.T) { p.finish(t, g) })
	}
}

// killed is a shell's exit code for a command that SIGKILL ended.
const killed = 128 + 9

// whenItSays is a shell command that runs another one, and does something as soon as that reaches a step. Its exit code is that of the
// other command.
func whenItSays(step, do, command string) string {
	return fmt.Sprintf(`mkfifo /run/said && { sh -c 'echo $$; exec %s' >/run/said 2>&1 & running=$!
		{ read pid; while read -r line; do echo "$line"; case $line in "kup: %s"*) %s;; esac; done; } </run/said
		wait $running; code=$?; rm /run/said; exit $code; }`, command, step, do)
}

// runsOn checks that the program is not stopped, not traced, and finds nothing wrong with itself.
func (p program) runsOn(t *testing.T, g *trial.Guest) {
	t.Helper()
	eventually(t, p.name+" to run on", func() bool {
		return must(t, g, "sh", "-c", "pid=$(kup ps --json | grep -A1 '\""+p.name+"\"' | grep pid | tr -dc 0-9)\n"+
			"for t in /proc/$pid/task/*; do grep -E '^(State:.[tTZ]|TracerPid:.[1-9])' $t/status; done; true") == ""
	})
	if log := p.log(t, g); strings.Contains(log, "FAIL") {
		t.Fatalf("%s: %s", p.name, log)
	}
}
