package test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// portrait is what must look the same from outside before and after a checkpoint: maps, descriptors, and signal
// state of every thread, as text per file of /proc.
type portrait map[string]string

var signalLines = regexp.MustCompile(`(?m)^(Sig|Shd)(Pnd|Blk|Ign|Cgt):.*$`)
var fdinfoLines = regexp.MustCompile(`(?m)^(pos|flags):.*$`)

func takePortrait(processes []int) portrait {
	p := portrait{}
	for _, pid := range processes {
		if !alive(pid) {
			continue
		}
		proc := fmt.Sprintf("/proc/%d/", pid)
		maps, _ := os.ReadFile(proc + "maps")
		p[proc+"maps"] = string(maps)
		tasks, _ := filepath.Glob(proc + "task/*/status")
		for _, status := range tasks {
			content, _ := os.ReadFile(status)
			p[status] = strings.Join(signalLines.FindAllString(string(content), -1), "\n")
		}
		fds, _ := filepath.Glob(proc + "fd/*")
		for _, fd := range fds {
			target, _ := os.Readlink(fd)
			info, _ := os.ReadFile(strings.Replace(fd, "/fd/", "/fdinfo/", 1))
			p[fd] = target + " " + strings.Join(fdinfoLines.FindAllString(string(info), -1), " ")
		}
	}
	return p
}

// steadyPortrait takes portraits until two in a row are the same: what a program has for a moment only, a pending signal
// or an open file, is in none.
func steadyPortrait(t *testing.T, processes []int) portrait {
	t.Helper()
	last := takePortrait(processes)
	eventually(t, "a steady state", func() bool {
		now := takePortrait(processes)
		same := difference(last, now) == ""
		last = now
		return same
	})
	return last
}

// difference names the first few things that differ.
func difference(before, after portrait) string {
	var found []string
	for name, want := range before {
		if got, exists := after[name]; !exists {
			found = append(found, fmt.Sprintf("%s is gone, was\n%s", name, want))
		} else if got != want {
			found = append(found, fmt.Sprintf("%s, expected\n%s\ngot\n%s", name, want, got))
		}
	}
	for name, got := range after {
		if _, exists := before[name]; !exists {
			found = append(found, fmt.Sprintf("%s is new:\n%s", name, got))
		}
	}
	return strings.Join(found[:min(len(found), 4)], "\n")
}

// sameAs compares the running processes with an earlier portrait. A program at work opens a file or blocks a signal
// for a moment, so a difference counts only if it stays.
func sameAs(t *testing.T, before portrait, processes []int) {
	t.Helper()
	var now string
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if now = difference(before, takePortrait(processes)); now == "" {
			return
		}
	}
	t.Fatalf("the processes do not look as before the checkpoint: %s", now)
}
