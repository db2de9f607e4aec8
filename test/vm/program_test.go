package vm

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kup-project/kup/internal/vm"
	"github.com/kup-project/kup/internal/vm/trial"
)

// program is a self-checking program in the guest, under kup's care.
type program struct {
	name   string
	source string   // below test/programs; a folder is a Go program
	flags  []string // for the C compiler
	args   []string // of its own
}

// path is where the guest has it.
func (p program) path() string { return "/usr/lib/kup-test/" + p.name }

func (p program) dir() string { return vm.DiskMount + "/" + p.name }

// build builds programs, and gives what the guest is to have of them.
func build(t *testing.T, programs []program) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, p := range programs {
		source, err := filepath.Abs(filepath.Join("../programs", p.source))
		if err != nil {
			t.Fatal(err)
		}
		switch filepath.Ext(source) {
		case ".c":
			files[p.path()] = filepath.Join(t.TempDir(), p.name)
			args := append([]string{"-O1", "-pthread", "-o", files[p.path()], source}, p.flags...)
			if text, err := exec.CommandContext(t.Context(), "gcc", args...).CombinedOutput(); err != nil {
				t.Fatalf("gcc %s: %v: %s", source, err, text)
			}
		case ".sh":
			files[p.path()] = source
		default:
			files[p.path()] = filepath.Join(t.TempDir(), p.name)
			if err := vm.BuildProgram(t.Context(), "./test/programs/"+p.source, files[p.path()]); err != nil {
				t.Fatal(err)
			}
		}
	}
	return files
}

// start starts the program and waits until it is ready.
func (p program) start(t *testing.T, g *trial.Guest) {
	t.Helper()
	command := append([]string{p.path(), p.dir() + "/log", p.dir() + "/finish"}, p.args...)
	if filepath.Ext(p.source) == ".sh" {
		command = append([]string{"bash"}, command...)
	}
	must(t, g, "mkdir", "-m", "777", p.dir())
	must(t, g, append([]string{"kup", "run", "-d", "--name", p.name, "--"}, command...)...)
	eventually(t, p.name+" to be ready", func() bool { return p.says(t, g, "ready") })
}

// stepBack lets everybody else have the processor first: without that, a program that never rests has most of an emulated one, and kup takes minutes.
// What ends before its turn comes does not matter; later children and threads inherit what the program has.
func (p program) stepBack(t *testing.T, g *trial.Guest) {
	t.Helper()
	must(t, g, "sh", "-c", "for t in $(for p in $(pidof "+p.name+"); do ls /proc/$p/task; done); do renice -n 19 -p $t || ! test -e /proc/$t || exit 1; done")
}

// running tells whether kup says that the program runs.
func (p program) running(t *testing.T, g *trial.Guest) bool {
	t.Helper()
	for line := range strings.Lines(must(t, g, "kup", "ps")) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[0] == p.name {
			return fields[2] == "running"
		}
	}
	return false
}

// log is what the program has said so far.
func (p program) log(t *testing.T, g *trial.Guest) string {
	t.Helper()
	return must(t, g, "sh", "-c", "cat "+p.dir()+"/log "+p.dir()+"/../kup/log/"+p.name+".log 2>/dev/null; true")
}

// says tells whether the program has said a word on a line of its own.
func (p program) says(t *testing.T, g *trial.Guest, word string) bool {
	t.Helper()
	log := p.log(t, g)
	if strings.Contains(log, "FAIL") {
		t.Fatalf("%s: %s", p.name, log)
	}
	return strings.Contains("\n"+log, "\n"+word+"\n")
}

// finish lets the program do its last checks.
func (p program) finish(t *testing.T, g *trial.Guest) {
	must(t, g, "touch", p.dir()+"/finish")
	eventually(t, "ok of "+p.name, func() bool { return p.says(t, g, "ok") })
}
