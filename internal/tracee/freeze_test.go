package tracee

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
)

// state is a process's state in /proc: one letter.
func state(t *testing.T, pid int) string {
	t.Helper()
	st, err := procfs.ReadStat(pid)
	if err != nil {
		t.Fatal(err)
	}
	return string(st.State)
}

// eventually waits for a condition that must come true.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

func TestTreeIsFrozenAndThawed(t *testing.T) {
	pid := start(t, program(t, "family"))
	tracer := New()
	defer tracer.Close()
	for range 3 {
		f := freeze(t, tracer, pid)
		seen := map[int]bool{}
		var zombies, stopped []int
		for n, p := range f.Processes {
			if n > 0 && !seen[p.PPID] {
				t.Errorf("%v comes before its parent %d", p, p.PPID)
			}
			seen[p.PID] = true
			switch {
			case p.Zombie:
				st, err := procfs.ReadStat(p.PID)
				if err != nil {
					t.Fatal(err)
				}
				zombies = append(zombies, st.ExitCode)
			case p.Stopped:
				stopped = append(stopped, p.StopSignal)
				fallthrough
			default:
				if s := state(t, p.PID); s != "t" {
					t.Errorf("%v is in state %s", p, s)
				}
				i, err := p.Tasks[0].Inject(100)
				if err != nil {
					t.Fatal(err)
				}
				b := NewBatch(i)
				ppid := b.Call(kernel.SysGetppid)
				if err := b.Run(); err != nil {
					t.Fatal(err)
				}
				if int(ppid.Value()) != p.PPID {
					t.Errorf("%v: getppid gives %d, want %d", p, ppid.Value(), p.PPID)
				}
			}
		}
		slices.Sort(zombies)
		if !slices.Equal(zombies, []int{15, 7 << 8}) {
			t.Errorf("zombies' exit codes are %v", zombies)
		}
		if !slices.Equal(stopped, []int{int(kernel.SIGSTOP)}) {
			t.Errorf("stop signals are %v", stopped)
		}
		if len(f.Processes) != 6 {
			t.Errorf("%d processes, want 6", len(f.Processes))
		}
		if err := f.Thaw(); err != nil {
			t.Fatal(err)
		}
		for _, p := range f.Processes {
			want := map[bool]string{true: "T", false: "S"}[p.Stopped]
			if p.Zombie {
				want = "Z"
			}
			eventually(t, fmt.Sprintf("%v to be in state %s", p, want), func() bool { return state(t, p.PID) == want })
		}
	}
}

func TestKillEndsTheTree(t *testing.T) {
	pid := start(t, program(t, "family"))
	tracer := New()
	defer tracer.Close()
	f := freeze(t, tracer, pid)
	if _, err := f.Processes[0].Tasks[0].Inject(100); err != nil {
		t.Fatal(err)
	}
	if err := f.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, p := range f.Processes {
		if st, err := procfs.ReadStat(p.PID); err == nil && st.State != 'Z' {
			t.Errorf("%v is in state %c", p, st.State)
		}
	}
	if _, err := procfs.ReadStat(pid); !procfs.Gone(err) {
		t.Errorf("our own child %d was not reaped: %v", pid, err)
	}
}

func TestStormOfForksIsFrozen(t *testing.T) {
	pid := start(t, program(t, "storm"))
	tracer := New()
	defer tracer.Close()
	for range 25 {
		f := freeze(t, tracer, pid)
		for _, p := range f.Processes {
			if p.Zombie {
				continue
			}
			tids, err := procfs.Threads(p.PID)
			if err != nil {
				t.Fatal(err)
			}
			for _, tid := range tids {
				if s := state(t, tid); s != "t" && s != "Z" {
					t.Errorf("%v: thread %d is in state %s", p, tid, s)
				}
			}
			children, err := procfs.Children(p.PID)
			if err != nil {
				t.Fatal(err)
			}
			for _, child := range children {
				if f.processes[child] == nil {
					t.Errorf("child %d of %v was missed", child, p)
				}
			}
		}
		if err := f.Thaw(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func TestRefusals(t *testing.T) {
	asm := filepath.Join(t.TempDir(), "pause32")
	build := exec.Command("sh", "-c", "printf '_start: mov $29, %%eax\\nint $0x80\\njmp _start\\n.globl _start\\n' | as --32 -o "+asm+".o - && ld -m elf_i386 -o "+asm+" "+asm+".o")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	running := func(exe string, name string, args ...string) int {
		cmd := exec.Command(name, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		eventually(t, exe+" to start", func() bool {
			target, err := os.Readlink(procfs.Path(cmd.Process.Pid, "exe"))
			return err == nil && filepath.Base(target) == exe
		})
		return cmd.Process.Pid
	}
	traced := start(t, program(t, "threads"), "3")
	done, held := make(chan bool), make(chan error)
	go func() {
		tracer := New()
		defer tracer.Close()
		f, err := tracer.Freeze(t.Context(), []int{traced})
		held <- err
		if err == nil {
			<-done
			held <- f.Thaw()
		}
	}()
	if err := <-held; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(done)
		if err := <-held; err != nil {
			t.Error(err)
		}
	})
	for name, c := range map[string]struct {
		pid  int
		says string
	}{
		"init":          {1, "init"},
		"kup":           {os.Getpid(), "kup itself"},
		"kernel thread": {2, "kernel thread"},
		"traced":        {traced, fmt.Sprintf("is traced by pid %d", os.Getpid())},
		"namespace":     {running("sleep", "unshare", "--uts", "sleep", "1000"), "another uts namespace"},
		"32 bit":        {running("pause32", asm), "32-bit"},
		"dispatched":    {start(t, program(t, "blocked"), "dispatched"), "PR_SET_SYSCALL_USER_DISPATCH"},
		"frozen group":  {frozenByGroup(t), "frozen by its control group"},
	} {
		t.Run(name, func(t *testing.T) {
			tracer := New()
			defer tracer.Close()
			_, err := tracer.Freeze(within(t, 5*time.Second), []int{c.pid})
			if !errors.Is(err, refuse.ErrRefused) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", c.pid)) {
				t.Errorf("got %v, want a refusal that says %q", err, c.says)
			}
		})
	}
}

func TestAddressSpaceLimit(t *testing.T) {
	s := startSurvivor(t, program(t, "survivor", "-mavx2"), survivorParts)
	s.unchanged(t, facts)
	if text, err := exec.Command("prlimit", "--pid", fmt.Sprint(s.pid), "--as=1000000").CombinedOutput(); err != nil {
		t.Fatalf("prlimit: %v: %s", err, text)
	}
	tracer := New()
	defer tracer.Close()
	for range 3 {
		f := freeze(t, tracer, s.pid)
		for _, task := range f.Processes[0].Tasks {
			if _, err := task.Inject(4096); !errors.Is(err, kernel.ENOMEM) || !strings.Contains(err.Error(), "limits") {
				t.Errorf("got %v, want ENOMEM and advice", err)
			}
		}
		if err := f.Thaw(); err != nil {
			t.Fatal(err)
		}
		s.unchanged(t, facts)
		s.progress(t)
	}
}

func TestTwoInjectionsInOneProcess(t *testing.T) {
	pid := start(t, program(t, "threads"), "4")
	tracer := New()
	defer tracer.Close()
	f := freeze(t, tracer, pid)
	var open []*Injection
	for _, task := range f.Processes[0].Tasks[:2] {
		i, err := task.Inject(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, i)
	}
	for _, i := range open {
		b := NewBatch(i)
		tid := b.Call(kernel.SysGettid)
		if err := b.Run(); err != nil {
			t.Fatal(err)
		}
		if int(tid.Value()) != i.Task().TID {
			t.Errorf("gettid gives %d, want %d", tid.Value(), i.Task().TID)
		}
	}
	if _, err := open[0].Task().Inject(100); err == nil {
		t.Error("a second injection into the same thread was opened")
	}
	if err := f.Thaw(); err != nil {
		t.Fatal(err)
	}
}

// pendingSignals are those of the thread and of the process.
func pendingSignals(t *testing.T, pid int) [2]uint64 {
	t.Helper()
	st, err := procfs.ReadStatus(pid)
	if err != nil {
		t.Fatal(err)
	}
	return [2]uint64{st.SigPending, st.SharedPending}
}

func TestPendingSignalsStayPending(t *testing.T) {
	pid := start(t, program(t, "blocked"), "pending")
	before := pendingSignals(t, pid)
	if before[0] == 0 || before[1] == 0 {
		t.Fatalf("pending are %x", before)
	}
	tracer := New()
	defer tracer.Close()
	for range 3 {
		f := freeze(t, tracer, pid)
		i, err := f.Processes[0].Tasks[0].Inject(100)
		if err != nil {
			t.Fatal(err)
		}
		b := NewBatch(i)
		b.Call(kernel.SysGetpid)
		if err := b.Run(); err != nil {
			t.Fatal(err)
		}
		if err := f.Thaw(); err != nil {
			t.Fatal(err)
		}
		if after := pendingSignals(t, pid); after != before {
			t.Fatalf("pending were %x and are %x", before, after)
		}
	}
}

func TestNoSignalIsLost(t *testing.T) {
	const signals = 2000
	file := filepath.Join(t.TempDir(), "count")
	if err := os.WriteFile(file, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	pid := start(t, program(t, "counts"), file)
	sent := make(chan error)
	go func() {
		for range signals {
			if err := kernel.Kill(pid, 34); err != nil { // SIGRTMIN of glibc
				sent <- err
				return
			}
			time.Sleep(50 * time.Microsecond)
		}
		sent <- nil
	}()
	tracer := New()
	defer tracer.Close()
	for running := true; running; {
		select {
		case err := <-sent:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
		f := freeze(t, tracer, pid)
		i, err := f.Processes[0].Tasks[0].Inject(100)
		if err != nil {
			t.Fatal(err)
		}
		b := NewBatch(i)
		b.Call(kernel.SysGetpid)
		if err := b.Run(); err != nil {
			t.Fatal(err)
		}
		if err := f.Thaw(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all signals to be handled", func() bool {
		data, err := os.ReadFile(file)
		return err == nil && binary.LittleEndian.Uint64(data) == signals
	})
}

func TestStopSignalDuringInjectionIsNotLost(t *testing.T) {
	pid := start(t, program(t, "threads"), "3")
	tracer := New()
	defer tracer.Close()
	f := freeze(t, tracer, pid)
	i, err := f.Processes[0].Tasks[0].Inject(100)
	if err != nil {
		t.Fatal(err)
	}
	if err := kernel.Kill(pid, kernel.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b := NewBatch(i)
	b.Call(kernel.SysGetpid)
	if err := b.Run(); err != nil {
		t.Fatal(err)
	}
	if err := f.Thaw(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process to stop", func() bool { return state(t, pid) == "T" })
}

func TestRestartableSequenceIsAborted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "aborts")
	if err := os.WriteFile(file, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	pid := start(t, program(t, "sequence"), file)
	aborts := func() uint64 {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return binary.LittleEndian.Uint64(data)
	}
	tracer := New()
	defer tracer.Close()
	moved := 0
	for range 40 {
		time.Sleep(time.Millisecond) // it shares a processor with the tracer, which may come first
		f := freeze(t, tracer, pid)
		task := f.Processes[0].Tasks[0]
		before := aborts()
		inside := task.moved
		i, err := task.Inject(100)
		if err != nil {
			t.Fatal(err)
		}
		if err := i.Close(); err != nil {
			t.Fatal(err)
		}
		if err := f.Thaw(); err != nil {
			t.Fatal(err)
		}
		if inside {
			moved++
			// Not aborted, the thread would go on in a sequence that the kernel has forgotten, and never count again.
			eventually(t, "the sequence to be aborted", func() bool { return aborts() > before })
		}
	}
	if moved == 0 {
		t.Error("the thread was never met in its sequence")
	}
}

// frozenByGroup starts a process and freezes it by a control group of its own, of whichever version there is.
func frozenByGroup(t *testing.T) int {
	t.Helper()
	pid := start(t, program(t, "spin"), "pause")
	parent, file, freeze, thaw := freezerMount, "freezer.state", "FROZEN", "THAWED"
	if _, err := os.Stat(parent); err != nil {
		parent, file, freeze, thaw = kernel.UnifiedMounts[0], "cgroup.freeze", "1", "0"
	}
	dir := filepath.Join(parent, fmt.Sprintf("kup-test-%d", pid))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() {
		write(filepath.Join(dir, file), thaw)
		write(filepath.Join(parent, "cgroup.procs"), fmt.Sprint(pid))
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	write(filepath.Join(dir, "cgroup.procs"), fmt.Sprint(pid))
	write(filepath.Join(dir, file), freeze)
	return pid
}
