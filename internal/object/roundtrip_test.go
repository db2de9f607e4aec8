package object

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/tracee"
)

// scenes are what targets can hold. Each is captured, rebuilt in a seed, captured again and compared.
var scenes = map[string]func(){
	"nothing": func() {},
	"files": func() {
		ok(os.WriteFile("log", []byte("0123456789"), 0o600))
		fd := must(kernel.Open("log", kernel.OWrOnly|kernel.OAppend|kernel.ONonblock, 0))
		must(kernel.Dup(fd))
		shared := must(kernel.Open("log", kernel.ORdOnly, 0))
		ok(kernel.Seek(shared, 7))
		must(kernel.Open("log", kernel.OPath, 0))
		must(kernel.Open(".", kernel.ODirectory, 0))
		ok(os.Symlink("log", "link"))
		must(kernel.Open("link", kernel.OPath|kernel.ONoFollow, 0))
		must(kernel.Open("odd (deleted)", kernel.OCreat|kernel.ORdWr|kernel.OSync|kernel.ONoATime, 0o644))
		must(kernel.Open("/proc/meminfo", kernel.ORdOnly, 0))
	},
	"deleted files": func() {
		fd := must(kernel.Open("gone", kernel.OCreat|kernel.ORdWr, 0o640))
		must(kernel.Write(fd, []byte("head")))
		ok(kernel.Seek(fd, 1<<20))
		must(kernel.Write(fd, []byte("tail")))
		ok(kernel.ChangeOwner(fd, 12, 34))
		again := must(kernel.Open("gone", kernel.ORdOnly, 0))
		ok(kernel.Seek(again, 2))
		ok(os.Remove("gone"))
		must(kernel.Open(".", kernel.OTmpFile|kernel.OWrOnly, 0o600))
	},
	"devices": func() {
		must(kernel.Open("/dev/null", kernel.OWrOnly|kernel.OAppend, 0))
		for _, name := range []string{"zero", "full", "random", "urandom"} {
			must(kernel.Open("/dev/"+name, kernel.ORdWr, 0))
		}
	},
	"pipes": func() {
		_, w := pipePair()
		must(kernel.Write(w, []byte("some words")))
		r, w := pipePair()
		ok(kernel.SetPipeSize(w, 1<<18))
		ok(kernel.SetFileFlags(r, kernel.ONonblock))
		must(kernel.Write(w, make([]byte, 200_000)))
		_, w = pipePair()
		ok(kernel.SetFileFlags(w, kernel.ODirect))
		must(kernel.Write(w, []byte("packet 1")))
		must(kernel.Write(w, []byte("packet two")))
	},
	"pipes closed at one end": func() {
		r, w := pipePair()
		must(kernel.Write(w, []byte("last words")))
		ok(kernel.Close(w))
		_ = r
		r, _ = pipePair()
		ok(kernel.Close(r))
	},
	"fifos": func() {
		ok(kernel.MakeFIFO("fifo", 0o620))
		r := must(kernel.Open("fifo", kernel.ORdOnly|kernel.ONonblock, 0))
		w := must(kernel.Open("fifo", kernel.OWrOnly, 0))
		must(kernel.Write(w, []byte("named")))
		ok(kernel.SetFileFlags(r, 0))
		ok(kernel.MakeFIFO("waiting", 0o600))
		must(kernel.Open("waiting", kernel.ORdOnly|kernel.ONonblock, 0))
		ok(kernel.MakeFIFO("left", 0o600))
		must(kernel.Open("left", kernel.ORdOnly|kernel.ONonblock, 0))
		ok(kernel.Close(must(kernel.Open("left", kernel.OWrOnly, 0))))
		ok(kernel.MakeFIFO("both", 0o600))
		must(kernel.Open("both", kernel.ORdWr, 0))
	},
	"eventfd": func() {
		must(kernel.EventFD(false))
		counted := must(kernel.EventFD(false))
		must(kernel.Write(counted, binary.NativeEndian.AppendUint64(nil, 1<<40)))
		semaphore := must(kernel.EventFD(true))
		must(kernel.Write(semaphore, binary.NativeEndian.AppendUint64(nil, 3)))
		ok(kernel.SetFileFlags(semaphore, kernel.ONonblock))
		full := must(kernel.EventFD(false))
		must(kernel.Write(full, binary.NativeEndian.AppendUint64(nil, 1<<64-2)))
	},
	"timerfd": func() {
		must(kernel.TimerFD(kernel.ClockMonotonic))
		ok(kernel.SetTimerFD(must(kernel.TimerFD(kernel.ClockMonotonic)), 0, int64(time.Hour), int64(time.Minute)))
		now := must(kernel.ClockTime(kernel.ClockMonotonic))
		ok(kernel.SetTimerFD(must(kernel.TimerFD(kernel.ClockMonotonic)), kernel.TimerAbsolute, now+int64(time.Hour), 0))
		now = must(kernel.ClockTime(kernel.ClockRealtime))
		ok(kernel.SetTimerFD(must(kernel.TimerFD(kernel.ClockRealtime)), kernel.TimerAbsolute|kernel.TimerCancelOnSet, now+int64(time.Hour), 0))
		expired := must(kernel.TimerFD(kernel.ClockBoottime))
		ok(kernel.SetTimerFD(expired, 0, 1, 0))
		periodic := must(kernel.TimerFD(kernel.ClockMonotonic))
		ok(kernel.SetTimerFD(periodic, 0, 1, int64(time.Hour)))
		for _, fd := range []int{expired, periodic} {
			ok(kernel.SetTimerFDTicks(fd, 5))
		}
	},
	"signalfd": func() {
		must(kernel.SignalFD(1<<9 | 1<<33 | 1<<63))
	},
	"memfd": func() {
		fd := must(kernel.MemfdCreate("store", 0))
		must(kernel.Write(fd, []byte("contents")))
		ok(kernel.Seek(fd, 3))
	},
	"epoll": sceneEpoll,
	"locks": func() {
		fd := must(kernel.Open("flocked", kernel.OCreat|kernel.ORdWr, 0o600))
		ok(kernel.Flock(fd, true))
		ok(kernel.Flock(must(kernel.Open("shared", kernel.OCreat|kernel.ORdWr, 0o600)), false))
		fd = must(kernel.Open("ranges", kernel.OCreat|kernel.ORdWr, 0o600))
		ok(kernel.LockDescription(fd, true, 10, 5))
		ok(kernel.LockDescription(fd, false, 100, 0))
	},
	"owner": func() {
		r, _ := pipePair()
		ok(kernel.SetSignalOwner(r, kernel.FileOwnerSignal{Type: 1, PID: 1, Signal: 34}))
	},
	"high numbers": func() {
		r, w := pipePair()
		ok(kernel.DupTo(r, 700))
		ok(kernel.DupTo(w, 40))
		ok(kernel.DupTo(w, 1500))
	},
}

func pipePair() (r, w int) {
	r, w, err := kernel.Pipe()
	ok(err)
	return r, w
}

func TestDescriptorsSurviveRebuild(t *testing.T) {
	for scene := range scenes {
		t.Run(scene, func(t *testing.T) {
			before, after := roundTrip(t, scene)
			if diff := cmp.Diff(before, after, sameObjects()...); diff != "" {
				t.Errorf("-before +after rebuild\n%s", diff)
			}
		})
	}
}

// sameObjects are the differences that are allowed.
func sameObjects() []cmp.Option {
	return []cmp.Option{
		cmpopts.IgnoreFields(image.Process{}, "PID"),
		cmpopts.IgnoreFields(image.Regular{}, "Content", "Path"), // a deleted file's; others are checked when they are opened
		cmp.FilterPath(func(p cmp.Path) bool { return strings.HasSuffix(p.String(), "Timer.Time.Value") },
			cmp.Comparer(func(a, b int64) bool { return (a == 0) == (b == 0) && max(a, b)-min(a, b) < int64(time.Minute) })),
		cmp.FilterPath(func(p cmp.Path) bool { return strings.HasSuffix(p.String(), "Timer.Due") },
			cmp.Comparer(func(a, b int64) bool { return max(a, b)-min(a, b) < int64(time.Second) })),
		// O_LARGEFILE, which open(2) adds, and O_TMPFILE change nothing.
		cmp.FilterPath(func(p cmp.Path) bool { return strings.HasSuffix(p.String(), "Files.Flags") },
			cmp.Comparer(func(a, b uint32) bool { return a&statusFlags == b&statusFlags && a&openFlags == b&openFlags })),
		cmpopts.SortSlices(func(a, b image.EpollTarget) bool { return a.Data < b.Data }), // the kernel's order is by address
		cmp.Comparer(func(a, b image.EpollTarget) bool {
			usedUp := a.Events&^kernel.EpollBehaviour == 0 // then the data never comes out again
			return a.FD == b.FD && a.File == b.File && a.Events == b.Events && (usedUp || a.Data == b.Data)
		}),
		// Contents are long; cmp would look at each byte by itself.
		cmp.FilterValues(func(a, b []byte) bool { return len(a) > 0 || len(b) > 0 }, cmp.Comparer(bytes.Equal)),
		cmpopts.EquateEmpty(),
	}
}

// roundTrip captures a scene, ends it, rebuilds it in a seed and captures that.
func roundTrip(t *testing.T, scene string) (before, after *image.State) {
	rebuild(t, scene, func(c *Capture, seed *tracee.Seed) {
		again, err := captureTarget(t, seed.PID())
		if err != nil {
			t.Fatal(err)
		}
		before, after = c.State, again.State
	})
	return before, after
}

// rebuild captures a scene, ends it, rebuilds it in a seed and hands that to look.
func rebuild(t *testing.T, scene string, look func(c *Capture, seed *tracee.Seed)) {
	t.Helper()
	pid, _ := startTarget(t, scene)
	c, err := captureTarget(t, pid)
	if err != nil {
		t.Fatal(err)
	}
	endTarget(t, pid)
	tracer := tracee.New()
	defer tracer.Close()
	seed, err := tracer.NewSeed(tracee.Hole{Addr: 0x7000_0000, Size: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer seed.Kill()
	r := &Rebuild{State: c.State, Dir: c.Dir, SharedMemory: map[int]int{}}
	defer r.Close()
	memory, err := kernel.MemfdCreate("store", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Close(memory)
	r.SharedMemory[1] = memory
	if err := r.Create(); err != nil {
		t.Fatal(err)
	}
	if err := r.Install(&c.State.Processes[0], seed); err != nil {
		t.Fatal(err)
	}
	if err := r.Connect(map[int]*tracee.Seed{pid: seed}); err != nil {
		t.Fatal(err)
	}
	if err := r.SetOwners(map[int]*tracee.Seed{pid: seed}); err != nil {
		t.Fatal(err)
	}
	r.Close()
	look(c, seed)
}

// borrow returns the test's own duplicate of a seed's descriptor.
func borrow(t *testing.T, seed *tracee.Seed, num int) int {
	t.Helper()
	pidfd, err := kernel.PidfdOpen(seed.PID())
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Close(pidfd)
	fd, err := kernel.PidfdGetfd(pidfd, num)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kernel.Close(fd) })
	return fd
}
