package tracee

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
)

// With victimEnv set to a pid, the test binary is a kup that freezes that process over and over, to be killed. With crashEnv set to
// "N STEP" it kills itself when it comes to a step for the Nth time; with hold it leaves an injection open, with ask a thread that has answered, and
// waits to be killed.
const (
	hold = "hold"
	ask  = "ask"

	victimEnv = "KUP_TEST_FREEZE"
	crashEnv  = "KUP_TEST_CRASH"
)

func TestMain(m *testing.M) {
	if pid, err := strconv.Atoi(os.Getenv(victimEnv)); err == nil {
		if err := freezeForever(pid, os.Getenv(crashEnv)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func freezeForever(pid int, crash string) error {
	if crash != "" && crash != hold && crash != ask {
		text, step, _ := strings.Cut(crash, " ")
		n, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		crashPoint = func(at string) {
			if at == step {
				if n--; n == 0 {
					kernel.Kill(os.Getpid(), kernel.SIGKILL)
					time.Sleep(time.Hour)
				}
			}
		}
	}
	tracer := New()
	defer tracer.Close()
	if crash == hold || crash == ask {
		f, err := tracer.Freeze(context.Background(), []int{pid})
		if err != nil {
			return err
		}
		if first := f.Processes[0].Tasks[0]; crash == hold {
			_, err = first.Inject(100)
		} else {
			i := &Injection{task: first}
			err = errors.Join(i.ask(), i.await())
		}
		if err != nil {
			return err
		}
		fmt.Println("begin")
		time.Sleep(time.Hour)
	}
	fmt.Println("begin")
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		f, err := tracer.Freeze(ctx, []int{pid})
		cancel()
		if err != nil {
			return err
		}
		for _, p := range f.Processes {
			if err := workOn(p); err != nil {
				return err
			}
		}
		if err := f.Thaw(); err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// workOn does to a process what a checkpoint does, and leaves an injection open, for Thaw to close.
func workOn(p *Process) error {
	const fd = 900
	first, err := p.Tasks[0].Inject(64 << 10)
	if err != nil {
		return err
	}
	holder, err := first.Fork()
	if err != nil {
		return err
	}
	holder.Release()
	area, _ := first.Area()
	extra := area&^(pageSize-1) + maxArea
	undo := first.Cleanup()
	undo.Call(kernel.SysClose, fd)
	undo.Call(kernel.SysMunmap, extra, pageSize)
	if err := undo.Run(); err != nil {
		return err
	}
	for range 2 {
		b := NewBatch(first)
		open := b.Must("open", kernel.SysOpen, b.String("/dev/null"), 0)
		b.Must("dup3", kernel.SysDup3, open, fd, 0)
		b.Must("close", kernel.SysClose, open)
		b.Must("mmap", kernel.SysMmap, extra, pageSize, 3, 0x32, -1, 0) // MAP_FIXED|MAP_PRIVATE|MAP_ANONYMOUS
		if err := b.Run(); err != nil {
			return err
		}
	}
	if _, err := AskAll(p.Tasks[1:]); err != nil {
		return err
	}
	for _, t := range p.Tasks[1:] {
		i, err := t.Inject(1000)
		if err != nil {
			return err
		}
		b := NewBatch(i)
		tid := b.Call(kernel.SysGettid)
		if err := b.Run(); err != nil {
			return err
		}
		if int(tid.Value()) != t.TID {
			return fmt.Errorf("gettid in %d gives %d", t.TID, tid.Value())
		}
		if err := i.Close(); err != nil {
			return err
		}
	}
	return nil
}

// killKup starts a kup that freezes the process over and over, and kills it: at a step, or if none is given after the delay.
func killKup(t *testing.T, pid int, delay time.Duration, crash string) {
	t.Helper()
	killKupAfter(t, pid, crash, func() { time.Sleep(delay) })
}

// killKupAfter lets something happen before the kill, if kup does not kill itself at a step.
func killKupAfter(t *testing.T, pid int, crash string, happen func()) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), victimEnv+"="+strconv.Itoa(pid), crashEnv+"="+crash)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "begin\n" {
		t.Fatalf("the helper said %q, %v", line, err)
	}
	if crash == "" || crash == hold || crash == ask {
		happen()
		cmd.Process.Kill()
	} else {
		defer time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() }).Stop()
	}
	if line, _ := lines.ReadString('\n'); line != "" {
		t.Fatalf("the helper failed: %s", line)
	}
	cmd.Wait()
	if cmd.ProcessState.String() != "signal: killed" {
		t.Fatalf("the helper ended with %v", cmd.ProcessState)
	}
}

// survivor is a program under test.
type survivor struct {
	pid    int
	rounds string // the file it counts in
	slots  []int
	last   map[int]uint64
	want   string // what must not change
}

func startSurvivor(t *testing.T, path string, slots int) *survivor {
	t.Helper()
	s := &survivor{rounds: filepath.Join(t.TempDir(), "rounds"), last: map[int]uint64{}}
	if err := os.WriteFile(s.rounds, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	for n := range slots {
		s.slots = append(s.slots, n)
	}
	s.pid = start(t, path, s.rounds)
	return s
}

// progress waits until every part of the program has counted on.
func (s *survivor) progress(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		data, err := os.ReadFile(s.rounds)
		if err != nil {
			t.Fatal(err)
		}
		stuck := []int{}
		for _, n := range s.slots {
			if binary.LittleEndian.Uint64(data[8*n:]) == s.last[n] {
				stuck = append(stuck, n)
			}
		}
		if len(stuck) == 0 {
			for _, n := range s.slots {
				s.last[n] = binary.LittleEndian.Uint64(data[8*n:])
			}
			return
		}
		if st, err := procfs.ReadStat(s.pid); err != nil || st.State == 'Z' {
			t.Fatalf("the program has ended: %+v, %v", st, err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("parts %v of the program do not go on", stuck)
		}
		time.Sleep(time.Millisecond)
	}
}

// unchanged waits until the process looks as before: it heals itself within microseconds, but not while it has no processor.
func (s *survivor) unchanged(t *testing.T, facts func(*testing.T, int) string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		got := facts(t, s.pid)
		if s.want == "" {
			s.want = got
		}
		if got == s.want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the process has changed, from\n%s\nto\n%s", s.want, got)
		}
		time.Sleep(time.Millisecond)
	}
}

// facts are the mappings, descriptors, and signal state of all threads.
func facts(t *testing.T, pid int) string {
	t.Helper()
	var b strings.Builder
	maps, err := os.ReadFile(procfs.Path(pid, "maps"))
	if err != nil {
		t.Fatal(err)
	}
	b.Write(maps)
	signalFacts(t, pid, &b)
	fmt.Fprintln(&b, offspring(t, pid))
	return b.String()
}

// offspring are the children of a process, zombies included, and the copies that kup has made of it.
func offspring(t *testing.T, pid int) string {
	t.Helper()
	children, err := procfs.Children(pid)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("children %v holders %v", children, holders(t, pid))
}

// holders lists the living copies that kup has made of a process. They have its arguments.
func holders(t *testing.T, pid int) (found []int) {
	t.Helper()
	arguments, err := os.ReadFile(procfs.Path(pid, "cmdline"))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		other, err := strconv.Atoi(entry.Name())
		if err != nil || other == pid {
			continue
		}
		st, err := procfs.ReadStat(other)
		theirs, _ := os.ReadFile(procfs.Path(other, "cmdline"))
		if err == nil && st.Comm == holderName && bytes.Equal(theirs, arguments) {
			found = append(found, other)
		}
	}
	return found
}

func signalFacts(t *testing.T, pid int, b *strings.Builder) {
	t.Helper()
	fds, err := procfs.FDs(pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		link, err := os.Readlink(procfs.Path(pid, "fd/"+strconv.Itoa(fd)))
		fmt.Fprintln(b, fd, link, err)
	}
	tids, err := procfs.Threads(pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, tid := range tids {
		st, err := procfs.ReadStatus(tid)
		if err != nil {
			t.Fatal(err)
		}
		// One part of the program blocks and unblocks SIGALRM, by sigsuspend(2).
		fmt.Fprintf(b, "%d blocked %x ignored %x caught %x tracer %d\n", tid, st.SigBlocked&^signalBit(kernel.SIGALRM), st.SigIgnored, st.SigCaught, st.TracerPID)
	}
}

// goFacts leave out what a Go program changes by itself: the heap and its threads' masks.
func goFacts(t *testing.T, pid int) string {
	t.Helper()
	var b strings.Builder
	fds, err := procfs.FDs(pid)
	if err != nil {
		t.Fatal(err)
	}
	st, err := procfs.ReadStatus(pid)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "%v ignored %x caught %x tracer %d %s", fds, st.SigIgnored, st.SigCaught, st.TracerPID, offspring(t, pid))
	return b.String()
}

const survivorParts = 11

// steps are all names of crash points. TestStepsAreAll compares them with the code.
var steps = []string{
	"seized", "all stopped", "frozen", "record written", "registers set", "mask set", "running", "area mapped", "table written", "batch ready",
	"batch executed", "clean-up written", "clean-up armed", "area gone", "mask put back", "registers put back", "ready to run", "detached",
	"asked", "forked", "first dies with kup", "first prepared", "holder born", "first ended", "first reaped",
}

func TestTargetSurvivesDeathAtEveryStep(t *testing.T) {
	s := startSurvivor(t, program(t, "survivor", "-mavx2"), survivorParts)
	s.progress(t) // all of it has begun
	s.unchanged(t, facts)
	for _, step := range steps {
		for _, nth := range []int{1, 2, 7} {
			if nth > 1 && (step == "all stopped" || step == "frozen") {
				continue // they come once in each freeze; 2 and 7 add nothing
			}
			t.Run(fmt.Sprintf("%s %d", step, nth), func(t *testing.T) {
				s.progress(t)
				killKup(t, s.pid, 0, fmt.Sprintf("%d %s", nth, step))
				s.unchanged(t, facts)
				s.progress(t)
			})
		}
	}
}

func TestTargetSurvivesRandomKills(t *testing.T) {
	s := startSurvivor(t, program(t, "survivor", "-mavx2"), survivorParts)
	s.progress(t) // all of it has begun
	s.unchanged(t, facts)
	for n := range 250 {
		killKup(t, s.pid, time.Duration(rand.IntN(25000))*time.Microsecond, "")
		s.unchanged(t, facts)
		s.progress(t)
		if t.Failed() {
			t.Fatalf("after %d kills", n)
		}
	}
}

func TestGoProgramSurvivesRandomKills(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gosurvivor")
	if text, err := exec.Command("go", "build", "-o", path, "./testdata/gosurvivor").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
	s := startSurvivor(t, path, 5)
	s.progress(t)
	s.unchanged(t, goFacts)
	for range 100 {
		killKup(t, s.pid, time.Duration(rand.IntN(25000))*time.Microsecond, "")
		s.unchanged(t, goFacts)
		s.progress(t)
	}
}

// TestInterruptedCallEndsAsEver lets a signal come while kup works on a thread, and kills kup: the thread's own code decides whether the call
// it was in ends with EINTR.
func TestInterruptedCallEndsAsEver(t *testing.T) {
	path := program(t, "blocked")
	for _, c := range []struct {
		how    string
		signal bool
		want   int
	}{
		{"read", true, interrupted}, {"read-restart", true, byteRead}, {"pause", true, interrupted},
		{"poll", true, interrupted}, {"nanosleep", true, interrupted},
		{"read", false, byteRead}, {"poll", false, byteRead},
	} {
		for _, crash := range []string{hold, ask} {
			t.Run(fmt.Sprintf("%s, signal %v, %s", c.how, c.signal, crash), func(t *testing.T) { callEnds(t, path, c.how, c.signal, crash, c.want) })
		}
	}
}

// What ended the wait of the program "blocked".
const (
	interrupted = 10
	byteRead    = 11
)

// callEnds kills kup in one way while a program waits, with or without a signal.
func callEnds(t *testing.T, path, how string, signal bool, crash string, want int) {
	cmd := exec.Command(path, how)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() }).Stop()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	pid := cmd.Process.Pid
	asleep := func() bool {
		call, err := procfs.ReadSyscall(pid)
		return err == nil && !call.Running
	}
	eventually(t, "the program to wait", asleep)
	killKupAfter(t, pid, crash, func() {
		if signal {
			kernel.Kill(pid, 10) // SIGUSR1
		}
	})
	if want == byteRead {
		eventually(t, "the program to wait again", asleep)
		if _, err := in.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != want {
		t.Errorf("the wait ended with %d (%v), want %d", got, cmd.ProcessState, want)
	}
}
