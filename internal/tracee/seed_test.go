package tracee

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/kup-project/kup/internal/kernel"
)

var testHole = Hole{Addr: 0x20_0000_0000, Size: 1 << 20}

func newTestSeed(t *testing.T, tracer *Tracer) *Seed {
	t.Helper()
	s, err := tracer.NewSeed(testHole)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

func TestSeedExecutesBatch(t *testing.T) {
	tracer := New()
	defer tracer.Close()
	s := newTestSeed(t, tracer)
	b := NewBatch(s)
	pid := b.Must("getpid", kernel.SysGetpid)
	bad := b.Call(kernel.SysClose, 12345)
	name := b.Space(16)
	b.Must("name", kernel.SysPrctl, kernel.PrSetName, b.String("gardener"))
	b.Must("read the name", kernel.SysPrctl, 16, name)
	if err := b.Run(); err != nil {
		t.Fatal(err)
	}
	if int(pid.Value()) != s.PID() {
		t.Errorf("getpid in seed %d returned %d", s.PID(), pid.Value())
	}
	if bad.Err() != kernel.Errno(9) {
		t.Errorf("closing a bad descriptor: %v, want EBADF", bad.Err())
	}
	if got := string(name.Data[:8]); got != "gardener" {
		t.Errorf("name is %q", got)
	}
}

func TestResultIsArgumentOfTwoLaterCalls(t *testing.T) {
	tracer := New()
	defer tracer.Close()
	s := newTestSeed(t, tracer)
	b := NewBatch(s)
	fd := b.Must("open", kernel.SysOpenat, kernel.AtFDCwd, b.String("/dev/null"), os.O_RDONLY)
	dup := b.Must("dup", kernel.SysDup3, fd, 77, 0)
	b.Must("close", kernel.SysClose, fd)
	if err := b.Run(); err != nil {
		t.Fatal(err)
	}
	if dup.Value() != 77 || fd.Value() < 0 {
		t.Errorf("open gave %d, dup3 %d", fd.Value(), dup.Value())
	}
}

func TestMustNamesWhatFailed(t *testing.T) {
	tracer := New()
	defer tracer.Close()
	s := newTestSeed(t, tracer)
	b := NewBatch(s)
	b.Must("open the gate", kernel.SysOpenat, kernel.AtFDCwd, b.String("/no/such/gate"), os.O_RDONLY)
	err := b.Run()
	if err == nil {
		t.Fatal("no error")
	}
	t.Log(err)
}

func TestSeedBearsProcessAndThreadsWithGivenIDs(t *testing.T) {
	tracer := New()
	defer tracer.Close()
	s := newTestSeed(t, tracer)
	const pid = 31000
	child, err := s.Clone(CloneOptions{ID: pid, Signal: int(kernel.SIGCHLD)})
	if err != nil {
		t.Fatal(err)
	}
	if child.PID() != pid {
		t.Fatalf("child is pid %d", child.PID())
	}
	threads, err := child.CloneThreads([]int{31007, 31003}, kernel.CloneAsThread)
	if err != nil {
		t.Fatal(err)
	}
	defer child.Kill()
	for _, th := range threads {
		b := NewBatch(th)
		tid := b.Must("gettid", kernel.SysGettid)
		if err := b.Run(); err != nil {
			t.Fatal(err)
		}
		if int(tid.Value()) != th.TID() {
			t.Errorf("thread %d says %d", th.TID(), tid.Value())
		}
	}
}

func TestIDThatIsTakenForAMomentIsWaitedFor(t *testing.T) {
	tracer := New()
	defer tracer.Close()
	s := newTestSeed(t, tracer)
	takeForAMoment := func() int {
		cmd := exec.Command("sleep", "0.05")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go cmd.Wait()
		return cmd.Process.Pid
	}
	child, err := s.Clone(CloneOptions{ID: takeForAMoment(), Signal: int(kernel.SIGCHLD)})
	if err != nil {
		t.Fatal(err)
	}
	defer child.Kill()
	if _, err := child.CloneThreads([]int{31021, takeForAMoment(), 31022}, kernel.CloneAsThread); err != nil {
		t.Fatal(err)
	}
}

func TestKillReapsThreadsThatNobodyKnows(t *testing.T) {
	tracer := New()
	defer tracer.Close()
	s := newTestSeed(t, tracer)
	child, err := s.Clone(CloneOptions{ID: 31011, Signal: int(kernel.SIGCHLD)})
	if err != nil {
		t.Fatal(err)
	}
	if threads, err := child.CloneThreads([]int{31012, os.Getpid(), 31013}, kernel.CloneAsThread); !errors.Is(err, kernel.EEXIST) || threads != nil {
		t.Errorf("threads with an ID that is taken: %v, %v", threads, err)
	}
	child.Kill()
	if _, err := os.Stat("/proc/31012"); err == nil {
		t.Error("a thread is still there")
	}
}

func TestSeedLeavesZombieForItsParent(t *testing.T) {
	tracer := New()
	defer tracer.Close()
	s := newTestSeed(t, tracer)
	child, err := s.Clone(CloneOptions{Signal: int(kernel.SIGCHLD)})
	if err != nil {
		t.Fatal(err)
	}
	b := NewBatch(child)
	b.Call(kernel.SysExitGroup, 7)
	if err := child.Leave(b); err != nil {
		t.Fatal(err)
	}
	status := NewBatch(s)
	word := status.Space(8)
	status.Must("wait", kernel.SysWait4, child.PID(), word, 0, 0)
	if err := status.Run(); err != nil {
		t.Fatal(err)
	}
	if got := word.Word(0); got != 7<<8 {
		t.Errorf("parent found status %#x", got)
	}
}
