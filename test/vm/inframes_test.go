package vm

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/kup-project/kup/internal/vm/trial"
	"github.com/kup-project/kup/internal/vm/vmtest"
)

// places is how many pages of the processes of a name are where.
type places struct{ Same, Elsewhere, Absent int }

// lookIntoFrames adds to what a guest is to have what inFrames needs, and returns what the next kernel's command line must have: images are copied before they are used, for
// they are deleted afterwards.
func lookIntoFrames(t *testing.T, files map[string]string) (parameter string) {
	t.Helper()
	const keep = "/usr/lib/kup-test/keep-images"
	files[inframes] = vmtest.Build(t, "./test/vm/testdata/inframes")
	// khugepaged makes huge pages of small ones, elsewhere.
	calm := "cd /sys/kernel/mm/transparent_hugepage/khugepaged && echo 1 >pages_to_scan && echo 1000000 >scan_sleep_millisecs && cd / || exit\n"
	files[keep] = script(t, calm+"rm -rf /run/images; cp -r /run/kup/update"+trial.StateDir+"/images /run/images && exec /bin/network-up")
	return "kup.boot=--network-up=" + keep
}

const inframes = "/usr/lib/kup-test/inframes"

// inFrames looks whether memory is in the page frames that it was in before the last update, by the programs' names.
func inFrames(t *testing.T, g *trial.Guest) map[string]places {
	t.Helper()
	var counts []struct {
		Name string
		places
	}
	text := must(t, g, "sh", "-c", inframes+" look /run/images/*")
	if err := json.Unmarshal([]byte(text), &counts); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if len(counts) == 0 {
		t.Fatal("no process has memory in page frames")
	}
	all := map[string]places{}
	for _, c := range counts {
		p := all[c.Name]
		all[c.Name] = places{p.Same + c.Same, p.Elsewhere + c.Elsewhere, p.Absent + c.Absent}
	}
	t.Logf("pages in their frames: %+v", all)
	return all
}

// script makes a shell script for a guest.
func script(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
