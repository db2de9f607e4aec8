package pageserver

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// sleeper starts a process to be filled, in name only.
func sleeper(t *testing.T) Identity {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	id, err := identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func saved(t *testing.T, f *Filling) {
	t.Helper()
	if err := f.save(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(f.path()) })
}

func TestFillingIsFound(t *testing.T) {
	process, server := sleeper(t), sleeper(t)
	image := t.TempDir()
	f := &Filling{Server: server, Image: image, Processes: []Process{{process, 8 << 20, 6 << 20}, {Total: 2 << 20, Left: 2 << 20}}}
	saved(t, f)

	found, err := Find(process.PID)
	if err != nil || found == nil || found.Server != server {
		t.Fatalf("expected the server of pid %d, got %+v, %v", process.PID, found, err)
	}
	if text := found.String(); !strings.HasSuffix(text, "2 of 10 MB") {
		t.Errorf("how far it is: %q", text)
	}
	if found, err := Find(os.Getpid()); err != nil || found != nil {
		t.Errorf("this process is not being filled: %+v, %v", found, err)
	}
	if found, err := Using(image); err != nil || found == nil {
		t.Errorf("the image in use: %+v, %v", found, err)
	}
	if found, err := Using(image + "/other"); err != nil || found != nil {
		t.Errorf("another image: %+v, %v", found, err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := Wait(ctx, process.PID, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for what does not come: %v", err)
	}
}

func TestFailureIsRememberedUntilTheNextRestore(t *testing.T) {
	process := sleeper(t)
	f := &Filling{Server: Identity{PID: 1 << 22, Start: 1}, Image: t.TempDir(), Processes: []Process{{process, 8, 8}}, Failed: "it was killed"}
	saved(t, f)
	if found, err := Find(process.PID); err != nil || found != nil {
		t.Errorf("a failed server fills nobody: %+v, %v", found, err)
	}
	if found, err := Failed(process.PID); err != nil || found == nil {
		t.Fatalf("expected the failure, got %+v, %v", found, err)
	}
	if err := Wait(context.Background(), process.PID, nil); err != nil {
		t.Error(err)
	}
	if err := forget(nil); err != nil {
		t.Fatal(err)
	}
	if found, err := Failed(process.PID); err != nil || found == nil {
		t.Errorf("the failure of another application is forgotten: %+v, %v", found, err)
	}
	if err := forget(f.Processes); err != nil {
		t.Fatal(err)
	}
	if found, err := Failed(process.PID); err != nil || found != nil {
		t.Errorf("expected the failure to be forgotten, got %+v, %v", found, err)
	}
}
