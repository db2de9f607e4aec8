package test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// refusal is a program that cannot be restored faithfully.
type refusal struct {
	name   string
	source string
	flags  []string
	target string // key in the log under which the pid to checkpoint stands; the root's without it
	names  string // regular expression that the message must match, beside the pid; "$fd" and "$address" are from the log
}

var refusals = []refusal{
	{name: "io_uring", source: "refuse/iouring", names: `fd $fd\b.*io_uring`},
	{name: "traced tree", source: "refuse/traced", names: `traced`},
	{name: "traced from outside", source: "refuse/traced", target: "traced", names: `traced`},
	{name: "inotify", source: "refuse/descriptor", flags: []string{"-DKIND_inotify"}, names: `fd $fd\b.*inotify`},
	{name: "fanotify", source: "refuse/descriptor", flags: []string{"-DKIND_fanotify"}, names: `fd $fd\b.*fanotify`},
	{name: "perf", source: "refuse/descriptor", flags: []string{"-DKIND_perf"}, names: `fd $fd\b.*perf`},
	{name: "bpf", source: "refuse/descriptor", flags: []string{"-DKIND_bpf"}, names: `fd $fd\b.*bpf`},
	{name: "userfaultfd", source: "refuse/descriptor", flags: []string{"-DKIND_userfaultfd"}, names: `userfaultfd`},
	{name: "tty", source: "refuse/descriptor", flags: []string{"-DKIND_tty"}, names: `fd $fd\b`},
	{name: "netlink socket", source: "refuse/descriptor", flags: []string{"-DKIND_netlink"}, names: `fd $fd\b`},
	{name: "raw socket", source: "refuse/descriptor", flags: []string{"-DKIND_raw"}, names: `fd $fd\b`},
	{name: "pidfd", source: "refuse/descriptor", flags: []string{"-DKIND_pidfd"}, names: `fd $fd\b`},
	{name: "message queue", source: "refuse/descriptor", flags: []string{"-DKIND_mqueue"}, names: `fd $fd\b`},
	{name: "device", source: "refuse/descriptor", flags: []string{"-DKIND_device"}, names: `fd $fd\b.*cpu_dma_latency`},
	{name: "file of a process", source: "refuse/descriptor", flags: []string{"-DKIND_process"}, names: `fd $fd\b.*/proc/\d+/mountinfo`},
	{name: "device mapping", source: "refuse/mapping", names: `$address`},
	{name: "pipe to the outside", source: "refuse/outside", flags: []string{"-DKIND_pipe"}, target: "target", names: `fd $fd\b.*pipe`},
	{name: "unix socket to the outside", source: "refuse/outside", flags: []string{"-DKIND_unix"}, target: "target", names: `fd $fd\b.*socket`},
	{name: "deleted working directory", source: "refuse/folder", names: `cwd.*/folder \(deleted\)`},
	{name: "seccomp", source: "refuse/seccomp", names: `seccomp`},
	{name: "uts namespace", source: "refuse/namespace", flags: []string{"-DNAMESPACE=CLONE_NEWUTS"}, names: `uts`},
	{name: "mount namespace", source: "refuse/namespace", flags: []string{"-DNAMESPACE=CLONE_NEWNS"}, names: `mnt|mount`},
	{name: "net namespace", source: "refuse/namespace", flags: []string{"-DNAMESPACE=CLONE_NEWNET"}, names: `net`},
}

func TestRefusedProgramRunsOnUntouched(t *testing.T) {
	for _, r := range refusals {
		t.Run(strings.ReplaceAll(r.name, " ", "_"), func(t *testing.T) {
			p := start(t, buildC(t, r.source, r.flags...))
			p.waitReady(t)
			if strings.Contains(p.read("log"), "lacks") {
				p.finish(t)
				return
			}
			target := p.pid
			if r.target != "" {
				target = p.value(t, r.target)
			}
			names := r.names
			for _, key := range []string{"fd", "address"} {
				if m := regexp.MustCompile(`(?m)^` + key + ` (\S+)$`).FindStringSubmatch(p.read("log")); m != nil {
					names = strings.ReplaceAll(names, "$"+key, m[1])
				}
			}
			pid := fmt.Sprintf(`\b%d\b`, target)
			if r.name == "traced tree" {
				pid = fmt.Sprintf(`\b%d\b`, p.value(t, "traced"))
			}
			refuses(t, p, target, pid, names)
			p.finish(t)
		})
	}
}

// refuses verifies that a checkpoint of target ends with exit code 3 and a message that matches all the expressions, leaves
// no image, and leaves the tree of p as it was.
func refuses(t *testing.T, p *program, target int, messages ...string) {
	t.Helper()
	before := observe(t, tree(p.pid))
	image := p.image(t)
	r := kup(t, "checkpoint", "--pid", strconv.Itoa(target), "--dir", image)
	if r.code != exitRefused {
		t.Errorf("kup checkpoint: exit code, expected %d, got %d\n%s", exitRefused, r.code, r.output)
	}
	for _, message := range messages {
		if !regexp.MustCompile(message).MatchString(r.output) {
			t.Errorf("message, expected a match of %q, got\n%s", message, r.output)
		}
	}
	noLeftovers(t, image, false)
	sameAs(t, before, tree(p.pid))
	for _, pid := range tree(p.pid) {
		if s, err := readStat(pid); err != nil || s.state == 'T' {
			t.Errorf("pid %d, expected running, got state %c (%v)", pid, s.state, err)
		}
	}
}

// TestRefused32BitProgram uses a program that a 64-bit compiler cannot make: a static ELF file with one endless loop of
// system calls.
func TestRefused32BitProgram(t *testing.T) {
	p := newProgram(t)
	path := filepath.Join(p.dir, "program32")
	if err := os.WriteFile(path, elf32(), 0o755); err != nil {
		t.Fatal(err)
	}
	p.launch(t, path)
	refuses(t, p, p.pid, strconv.Itoa(p.pid), `32-bit`)
	if !alive(p.pid) {
		t.Error("the 32-bit program has ended")
	}
}

// elf32 returns an i386 executable that sleeps for ever, one second at a time.
func elf32() []byte {
	const base, headers = 0x08048000, 52 + 32
	code := []byte{
		0x6a, 0x00, 0x6a, 0x01, // push 0; push 1: a timespec of one second
		0xb8, 0xa2, 0, 0, 0, // mov $162 (nanosleep), %eax
		0x89, 0xe3, // mov %esp, %ebx
		0x31, 0xc9, // xor %ecx, %ecx
		0xcd, 0x80, // int $0x80
		0xeb, 0xf3, // jmp back to the mov
	}
	size := uint32(headers + len(code))
	words := func(values ...uint32) (b []byte) {
		for _, v := range values {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
		return b
	}
	halves := func(values ...uint16) (b []byte) {
		for _, v := range values {
			b = binary.LittleEndian.AppendUint16(b, v)
		}
		return b
	}
	file := append([]byte("\x7fELF\x01\x01\x01"), make([]byte, 9)...)
	file = append(file, halves(2, 3)...)                                 // ET_EXEC, EM_386
	file = append(file, words(1, base+headers, 52, 0, 0)...)             // version, entry, program headers, section headers, flags
	file = append(file, halves(52, 32, 1, 0, 0, 0)...)                   // sizes and counts
	file = append(file, words(1, 0, base, base, size, size, 5, 4096)...) // PT_LOAD, readable and executable
	return append(file, code...)
}

func TestRefusedPids(t *testing.T) {
	p := start(t, buildC(t, "task/basic"))
	p.waitReady(t)
	unused := 1<<22 - 1 // pid_max is at most 1<<22, see proc(5)
	for _, c := range []struct {
		name  string
		pid   int
		codes []int
	}{
		{"kernel thread", 2, []int{exitRefused}},
		{"init", 1, []int{exitRefused}},
		{"no such process", unused, []int{exitFailed, exitRefused}},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			image := p.image(t)
			// Should the refusal fail, at least nothing of the system is ended.
			r := kup(t, "checkpoint", "--pid", strconv.Itoa(c.pid), "--dir", image, "--leave-running")
			if r.code != c.codes[0] && r.code != c.codes[len(c.codes)-1] {
				t.Errorf("exit code, expected one of %v, got %d\n%s", c.codes, r.code, r.output)
			}
			if !strings.Contains(r.output, strconv.Itoa(c.pid)) {
				t.Errorf("the message does not name pid %d: %s", c.pid, r.output)
			}
			noLeftovers(t, image, false)
		})
	}
	p.finish(t)
}

// TestRefusedTreeWithKupInside lets a shell checkpoint itself: kup would have to stop itself.
func TestRefusedTreeWithKupInside(t *testing.T) {
	binary := buildKup(t)
	p := newProgram(t)
	p.launch(t, "sh", "-c", `"$1" checkpoint --pid $$ --dir image --leave-running >message 2>&1; echo "code $?" >code; sleep 1000`, "sh", binary)
	eventually(t, "the end of kup", func() bool { return strings.HasSuffix(p.read("code"), "\n") })
	if got, want := p.read("code"), fmt.Sprintf("code %d\n", exitRefused); got != want {
		t.Errorf("expected %q, got %q: %s", want, got, p.read("message"))
	}
	if !strings.Contains(p.read("message"), "kup itself") {
		t.Errorf("the message does not tell what is wrong: %s", p.read("message"))
	}
	time.Sleep(50 * time.Millisecond)
	if !alive(p.pid) {
		t.Error("the shell has ended")
	}
}
