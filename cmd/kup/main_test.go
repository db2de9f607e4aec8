package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kup-project/kup"
	"github.com/kup-project/kup/internal/app"
	"github.com/kup-project/kup/internal/kernel"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"kup": main}) }

// TestScripts runs testdata/*.txtar. Besides the usual commands there are
//
//	exits CODE kup ARG...   runs kup and wants that exit code
//	signal NAME SIGNAL      sends a signal, by number, to an application
//	state NAME STATE        waits until kup ps says so
func TestScripts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("kup needs root, and so do its tests")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Condition: func(condition string) (bool, error) {
			path, ok := strings.CutPrefix(condition, "exists:")
			if !ok {
				return false, fmt.Errorf("unknown condition %q", condition)
			}
			_, err := os.Stat(path)
			return err == nil, nil
		},
		Setup: func(env *testscript.Env) error {
			state := filepath.Join(env.WorkDir, "state")
			env.Setenv(app.DirVariable, state)
			env.Defer(func() { endAll(t, state) })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "signal": sendSignal, "state": waitState,
		},
	})
}

func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

func find(ts *testscript.TestScript, name string) (kup.Application, bool) {
	all, err := kup.Applications(kup.State{Dir: ts.Getenv(app.DirVariable)})
	ts.Check(err)
	i := slices.IndexFunc(all, func(a kup.Application) bool { return a.Name == name })
	if i < 0 {
		return kup.Application{}, false
	}
	return all[i], true
}

func sendSignal(ts *testscript.TestScript, _ bool, args []string) {
	a, found := find(ts, args[0])
	if !found {
		ts.Fatalf("there is no application %s", args[0])
	}
	sig, err := strconv.Atoi(args[1])
	ts.Check(err)
	if a.Processes == 0 {
		ts.Fatalf("%s is %s", a.Name, a.State)
	}
	ts.Check(kernel.Kill(a.PID, kernel.Signal(sig)))
}

func waitState(ts *testscript.TestScript, _ bool, args []string) {
	var a kup.Application
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		found := false
		if a, found = find(ts, args[0]); found && string(a.State) == args[1] {
			return
		}
	}
	ts.Fatalf("%s is %s", args[0], a.State)
}

// endAll kills what a script has left running.
func endAll(t *testing.T, state string) {
	all, err := kup.Applications(kup.State{Dir: state})
	if err != nil {
		t.Error(err)
	}
	for _, a := range all {
		if a.Processes > 0 {
			if err := kernel.Kill(a.PID, kernel.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	}
}
