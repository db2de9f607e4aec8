package test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// habits is what a program looks like while nothing is done to it. A program at work opens a file or blocks a signal for a moment, so
// there can be several texts for one file of /proc, and files that come and go.
type habits struct {
	texts  map[string][]string
	always map[string]bool // files that were there all the time
}

// observe takes portraits until two in a row are the same, and then some more.
func observe(t *testing.T, processes []int) habits {
	t.Helper()
	last := takePortrait(processes)
	eventually(t, "a steady state", func() bool {
		now := takePortrait(processes)
		same := maps.Equal(last, now)
		last = now
		return same
	})
	h := habits{map[string][]string{}, map[string]bool{}}
	for name := range last {
		h.always[name] = true
	}
	const more, pause = 10, 5 * time.Millisecond
	for range more {
		for name, text := range last {
			if !slices.Contains(h.texts[name], text) {
				h.texts[name] = append(h.texts[name], text)
			}
		}
		for name := range h.always {
			if _, there := last[name]; !there {
				delete(h.always, name)
			}
		}
		time.Sleep(pause)
		last = takePortrait(processes)
	}
	return h
}

// likeAnotherThread reports whether a file is of a new thread that looks as others of its process did. A Go program starts threads when it
// likes; kup never does.
func (h habits) likeAnotherThread(name, text string) bool {
	process, _, isThread := strings.Cut(name, "/task/")
	if !isThread {
		return false
	}
	for other, texts := range h.texts {
		if strings.HasPrefix(other, process+"/task/") && slices.Contains(texts, text) {
			return true
		}
	}
	return false
}

// sameAs compares the running processes with what was observed earlier. A difference counts only if it stays.
func sameAs(t *testing.T, before habits, processes []int) {
	t.Helper()
	open := maps.Clone(before.always)
	var fresh []string
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		now := takePortrait(processes)
		fresh = fresh[:0]
		for name, text := range now {
			if slices.Contains(before.texts[name], text) {
				delete(open, name)
			} else if before.texts[name] == nil && !before.likeAnotherThread(name, text) {
				fresh = append(fresh, name+" is new: "+text)
			}
		}
		if len(open) == 0 && len(fresh) == 0 {
			return
		}
	}
	now := takePortrait(processes)
	for name := range open {
		t.Errorf("%s, expected\n%s\ngot\n%s", name, strings.Join(before.texts[name], "\nor\n"), now[name])
	}
	t.Fatalf("the processes do not look as before the checkpoint: %d files of /proc differ, and %v", len(open), fresh)
}
