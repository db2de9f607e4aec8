package test

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
)

// TestSharedPagesStayShared takes checkpoints of a program whose children have most of their memory from it: reading a page that several have must not give anybody
// one of its own.
func TestSharedPagesStayShared(t *testing.T) {
	for _, flags := range [][]string{nil, {"--precopy"}, {"--paranoid"}, {"--fork"}} {
		t.Run(fmt.Sprint(flags), func(t *testing.T) {
			p := newProgram(t)
			p.launch(t, buildC(t, "memory/crowd", "-static"), p.path("log"), p.path("finish"), "96")
			p.waitReady(t)
			if _, result := p.checkpoint(t, true, flags...); result.code != 0 {
				t.Fatalf("kup checkpoint: exit code %d\n%s", result.code, result.output)
			}
			// The children have a third of the memory, and nobody ever writes to three quarters of that.
			if kb := shared(t, p.pid); kb < 96<<10/3*3/4*9/10 {
				t.Errorf("processes of the program share only %d kB any more", kb)
			}
			p.finish(t)
		})
	}
}

var sharedKB = regexp.MustCompile(`Shared_Dirty: *([0-9]+) kB`)

// shared is how much of a process's memory others have, too, kB.
func shared(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	kb, err := strconv.Atoi(string(sharedKB.FindSubmatch(text)[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kb
}
