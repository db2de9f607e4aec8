package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// program is a running self-checking program.
type program struct {
	dir    string // its own directory
	images string // where its images go; "": below dir
	pid    int    // root of its tree, the same after a restore
	env    []string
	// processes were the tree at the last checkpoint: they exist again after a restore.
	processes []int
	cmd       *exec.Cmd
}

// start runs command LOG FINISH in a session of its own.
func start(t *testing.T, command ...string) *program {
	t.Helper()
	p := newProgram(t)
	p.launch(t, append(command, p.path("log"), p.path("finish"))...)
	return p
}

// newProgram makes the directory of a program that is to be launched.
func newProgram(t *testing.T) *program {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "row-")
	if err != nil {
		t.Fatal(err)
	}
	// Some programs give up root.
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return &program{dir: dir}
}

// launch runs a command in a session of its own. What it leaves is ended with the test.
func (p *program) launch(t *testing.T, command ...string) {
	t.Helper()
	output, err := os.OpenFile(p.path("output"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	p.cmd = exec.Command("setsid", command...)
	p.cmd.Dir = p.dir
	p.cmd.Env = append(p.env, "PATH="+os.Getenv("PATH"), "LC_ALL=C")
	p.cmd.Stdout, p.cmd.Stderr = output, output
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.pid = p.cmd.Process.Pid
	t.Cleanup(func() { p.cleanup(t) })
	harness, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, fmt.Sprintf("start of %s", command[0]), func() bool {
		// Before the two execs it is the harness, then setsid. A dead leader has a name still, but no arguments.
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.pid))
		return string(comm) != "setsid\n" && string(comm) != string(harness) && len(comm) > 0
	})
}

// waitReady waits until the program has set everything up, and logs what this machine lacks for it.
func (p *program) waitReady(t *testing.T) {
	t.Helper()
	p.waitLog(t, "ready\n")
	for _, probe := range regexp.MustCompile(`(?m)^lacks: .*`).FindAllString(p.read("log"), -1) {
		t.Logf("this machine %s", probe)
	}
}

// waitLog waits for a text in the log.
func (p *program) waitLog(t *testing.T, text string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%q in the log of pid %d", text, p.pid), func() bool {
		p.check(t)
		if reaped(p.pid) {
			t.Fatalf("pid %d ended too early\n%s%s", p.pid, p.read("log"), p.read("output"))
		}
		return strings.Contains(p.read("log"), text)
	})
}

func (p *program) path(name string) string { return filepath.Join(p.dir, name) }

func (p *program) read(name string) string {
	content, _ := os.ReadFile(p.path(name))
	return string(content)
}

// check fails the test as soon as the program has found a fault.
func (p *program) check(t *testing.T) {
	t.Helper()
	if log := p.read("log"); strings.Contains(log, "FAIL") {
		t.Fatalf("the program found a fault:\n%s", log)
	}
}

// value returns the number that follows "key " on a line of the log.
func (p *program) value(t *testing.T, key string) int {
	t.Helper()
	p.waitLog(t, key+" ")
	m := regexp.MustCompile(`(?m)^` + key + ` (\d+)$`).FindStringSubmatch(p.read("log"))
	if m == nil {
		t.Fatalf("no number after %q in the log:\n%s", key, p.read("log"))
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// finish tells the program to do its last checks and verifies how it ended.
func (p *program) finish(t *testing.T) {
	t.Helper()
	p.check(t)
	if !alive(p.pid) && !threadsLive(p.pid) {
		t.Fatalf("pid %d has ended without a word\n%s%s", p.pid, p.read("log"), p.read("output"))
	}
	if err := os.WriteFile(p.path("finish"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	eventually(t, fmt.Sprintf("end of pid %d", p.pid), func() bool {
		p.check(t)
		return reaped(p.pid)
	})
	p.check(t)
	if log := p.read("log"); !strings.HasSuffix(log, "ok\n") {
		t.Fatalf("the program ended without its last checks:\n%s%s", log, p.read("output"))
	}
	if left := members(p.dir); len(left) > 0 {
		for _, pid := range left {
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			t.Logf("pid %d: %s", pid, status)
		}
		t.Errorf("processes %v of the tree are left", left)
	}
}

// end kills the whole tree, including what is born meanwhile.
func (p *program) end(t *testing.T) {
	t.Helper()
	for {
		all := slices.Concat(p.processes, tree(p.pid), members(p.dir))
		slices.Sort(all)
		all = slices.DeleteFunc(slices.Compact(all), func(pid int) bool {
			_, err := readStat(pid)
			return err != nil
		})
		if len(all) == 0 {
			return
		}
		end(t, all)
	}
}

func (p *program) cleanup(t *testing.T) {
	p.end(t)
	if t.Failed() {
		t.Logf("log:\n%s%s", p.read("log"), p.read("output"))
	}
	if err := os.RemoveAll(p.dir); err != nil {
		t.Error(err)
	}
}
