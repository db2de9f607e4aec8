package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience bounds every wait for something that must happen.
const patience = 20 * time.Second

// eventually waits until condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// stat holds what /proc/PID/stat says, see proc_pid_stat(5).
type stat struct {
	state   byte
	ppid    int
	session int
}

func readStat(pid int) (stat, error) {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	var s stat
	var pgrp int
	_, err = fmt.Sscanf(string(line[bytes.LastIndexByte(line, ')')+1:]), " %c %d %d %d", &s.state, &s.ppid, &pgrp, &s.session)
	return s, err
}

func alive(pid int) bool {
	s, err := readStat(pid)
	return err == nil && s.state != 'Z' && s.state != 'X'
}

// pids lists all processes.
func pids() []int {
	entries, _ := os.ReadDir("/proc")
	var all []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

// tree lists root and its descendants, zombies included, and the rest of the session that root leads: orphans that have
// become the harness's.
func tree(root int) []int {
	children := map[int][]int{}
	var orphans []int
	for _, pid := range pids() {
		s, err := readStat(pid)
		switch {
		case err != nil:
		case s.ppid == os.Getpid() && s.session == root && pid != root:
			orphans = append(orphans, pid)
		default:
			children[s.ppid] = append(children[s.ppid], pid)
		}
	}
	found := append([]int{root}, orphans...)
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i]]...)
	}
	return found
}

// members lists the live processes that have dir in their arguments or a file of it open.
func members(dir string) []int {
	var found []int
	for _, pid := range pids() {
		if pid == os.Getpid() || !alive(pid) {
			continue
		}
		proc := fmt.Sprintf("/proc/%d/", pid)
		cmdline, _ := os.ReadFile(proc + "cmdline")
		links, _ := filepath.Glob(proc + "fd/*")
		in := bytes.Contains(cmdline, []byte(dir)) || slices.ContainsFunc(append(links, proc+"cwd"), func(link string) bool {
			target, _ := os.Readlink(link)
			return strings.HasPrefix(target, dir)
		})
		if in {
			found = append(found, pid)
		}
	}
	return found
}

// end kills processes and waits until they are gone. Orphans become the harness's children, see TestMain, and must
// be reaped or their pids stay taken.
func end(t *testing.T, processes []int) {
	t.Helper()
	stop(processes)
	for _, pid := range processes {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill()
		}
	}
	gone(t, processes)
}

// stop stops processes, so that none of them sees the others die and complains. Those that are gone do not matter.
func stop(processes []int) {
	args := []string{"-STOP"}
	for _, pid := range processes {
		args = append(args, strconv.Itoa(pid))
	}
	_ = exec.Command("kill", args...).Run()
}

// gone waits until none of the processes exists, not even as a zombie.
func gone(t *testing.T, processes []int) {
	t.Helper()
	for _, pid := range processes {
		eventually(t, fmt.Sprintf("end of pid %d", pid), func() bool { return reaped(pid) })
	}
}

// reaped waits for pid if it is a dead child of the harness, and tells whether the pid is free.
func reaped(pid int) bool {
	s, err := readStat(pid)
	if err != nil {
		return true
	}
	// A dead leader whose threads live on is a zombie too, and waiting for it would block.
	if s.state == 'Z' && s.ppid == os.Getpid() && !threadsLive(pid) {
		if p, err := os.FindProcess(pid); err == nil {
			_, _ = p.Wait()
		}
	}
	return false
}

// threadsLive tells whether a process has threads beside its leader.
func threadsLive(pid int) bool {
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return len(tasks) > 1
}
