package object

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/refuse"
	"github.com/kup-project/kup/internal/tracee"
)

// family starts a seed and a child of it, both of them targets of system calls.
func family(t *testing.T, tracer *tracee.Tracer, prepare func(b *tracee.Batch), flags uint64) (parent, child *tracee.Seed) {
	t.Helper()
	parent, err := tracer.NewSeed(tracee.Hole{Addr: 0x7000_0000, Size: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(parent.Kill)
	b := tracee.NewBatch(parent)
	prepare(b)
	if err := b.Run(); err != nil {
		t.Fatal(err)
	}
	child, err = parent.Clone(tracee.CloneOptions{Flags: flags, Signal: int(kernel.SIGCHLD)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(child.Kill)
	return parent, child
}

func TestDescriptionsStaySharedAcrossProcesses(t *testing.T) {
	tracer := tracee.New()
	t.Cleanup(tracer.Close)
	path := filepath.Join(t.TempDir(), "file")
	parent, child := family(t, tracer, func(b *tracee.Batch) {
		open(b, path, kernel.OCreat|kernel.ORdWr)
		b.Must("pipe2", kernel.SysPipe2, b.Space(8), kernel.OCloExec)
		b.Must("eventfd2", kernel.SysEventfd2, 3, 0)
	}, 0)
	b := tracee.NewBatch(child)
	own := open(b, path, kernel.ORdWr) // the same file, another description
	b.Must("write", kernel.SysWrite, own, b.String("words"), 5)
	b.Must("F_SETLK", kernel.SysFcntl, own, kernel.FSetLk, b.Bytes(kernel.RecordLock(true, 3, 0)))
	b.Must("dup", kernel.SysDup3, 2, 77, 0)
	if err := b.Run(); err != nil {
		t.Fatal(err)
	}
	before, err := captureTarget(t, parent.PID(), child.PID())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(before.State.Files); n != 5 {
		t.Errorf("%d open file descriptions, want 5", n)
	}
	child.Kill()
	parent.Kill()

	first, second := family(t, tracer, func(*tracee.Batch) {}, 0)
	r := &Rebuild{State: before.State, Dir: before.Dir}
	defer r.Close()
	if err := r.Create(); err != nil {
		t.Fatal(err)
	}
	seeds := map[int]*tracee.Seed{parent.PID(): first, child.PID(): second}
	for i := range r.State.Processes {
		p := &r.State.Processes[i]
		if err := r.Install(p, seeds[p.PID]); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Connect(seeds); err != nil {
		t.Fatal(err)
	}
	r.Close()
	after, err := captureTarget(t, first.PID(), second.PID())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before.State, after.State, sameObjects()...); diff != "" {
		t.Errorf("-before +after rebuild\n%s", diff)
	}
}

func TestSharedTableIsRefused(t *testing.T) {
	tracer := tracee.New()
	t.Cleanup(tracer.Close)
	parent, child := family(t, tracer, func(*tracee.Batch) {}, kernel.CloneFiles)
	err := Check([]int{parent.PID(), child.PID()})
	if !errors.Is(err, refuse.ErrRefused) || !strings.Contains(err.Error(), "share one descriptor table") {
		t.Errorf("not refused: %v", err)
	}
	if err := Check([]int{parent.PID()}); err != nil {
		t.Errorf("a table of its own: %v", err)
	}
}

// An image from elsewhere names kinds that this version does not know.
func TestUnknownKindIsNotRebuilt(t *testing.T) {
	r := &Rebuild{State: &image.State{Files: []image.OpenFile{{ID: 1, Kind: "hologram"}}}, Dir: os.TempDir()}
	if err := r.Create(); err == nil || !strings.Contains(err.Error(), `"hologram"`) {
		t.Errorf("want an error that names the kind: %v", err)
	}
}
