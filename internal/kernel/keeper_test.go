package kernel

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// role and tracee are variables of the environment for processes of the next test.
const role, tracee = "KUP_TEST_ROLE", "KUP_TEST_TRACEE"

// init plays a role: only here it is known which thread is the first.
func init() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	playing := os.Getenv(role)
	done := make(chan error)
	switch playing {
	case "reader":
		readAlways()
	case "first thread":
		panic(traceInRepair())
	case "other thread":
		go func() { done <- traceInRepair() }()
		panic(<-done)
	default:
		return
	}
	os.Exit(0)
}

// TestTraceesNeverSeeWhatWillsPutRight kills a process that has a connection in repair mode, again and again, on a machine where whoever puts it in order has to wait for a
// processor. The process that uses the connection, which it traces, must see it in order.
func TestTraceesNeverSeeWhatWillsPutRight(t *testing.T) {
	for range runtime.NumCPU() {
		busy := exec.Command("sh", "-c", "while :; do :; done")
		if err := busy.Start(); err != nil {
			t.Fatal(err)
		}
		defer busy.Wait()
		defer busy.Process.Kill()
	}
	socket := connected(t)
	play := func(env ...string) (cmd *exec.Cmd, in io.Closer, out *bufio.Reader, line string) {
		cmd = exec.Command(os.Args[0])
		cmd.Env, cmd.ExtraFiles, cmd.Stderr, cmd.SysProcAttr = append(os.Environ(), env...), []*os.File{socket}, os.Stderr, NewSession()
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		out = bufio.NewReader(pipe)
		line, err = out.ReadString('\n')
		if err != nil {
			t.Fatalf("%v says %q, %v", env, line, err)
		}
		return cmd, in, out, line[:len(line)-1]
	}
	rounds := 50
	if testing.Short() {
		rounds = 10
	}
	for round := range rounds {
		reader, in, out, tid := play(role + "=reader")
		thread := []string{"first thread", "other thread"}[round%2]
		tracer, _, _, _ := play(role+"="+thread, tracee+"="+tid)
		if repair, err := SocketInt(int(socket.Fd()), SolTCP, TCPRepair); err != nil || repair != 1 {
			t.Fatalf("the socket should be in repair: %d, %v", repair, err)
		}
		killGroup(t, tracer)
		time.Sleep(20 * time.Millisecond)
		in.Close()
		if seen, err := out.ReadString('\n'); seen != "in order\n" {
			t.Errorf("round %d, %s: the tracee says %q, %v", round, thread, seen, err)
		}
		reader.Wait()
		if repair, err := SocketInt(int(socket.Fd()), SolTCP, TCPRepair); err != nil || repair != 0 {
			t.Errorf("round %d, %s: repair mode after death: %d, %v", round, thread, repair, err)
		}
	}
}

// connected returns one end of a connection on which nothing is sent.
func connected(t *testing.T) *os.File {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	file, err := client.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

// socketOfRole is what the processes of the test share.
const socketOfRole = 3

// readAlways reads until the standard input ends, and then says what it has seen.
func readAlways() {
	ended := make(chan bool)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	runtime.LockOSThread()
	os.Stdout.WriteString(strconv.Itoa(unix.Gettid()) + "\n")
	for buf := make([]byte, 1); ; {
		if _, _, err := unix.Recvfrom(socketOfRole, buf, unix.MSG_DONTWAIT); !errors.Is(err, unix.EAGAIN) {
			os.Stdout.WriteString(err.Error() + "\n")
			return
		}
		select {
		case <-ended:
			os.Stdout.WriteString("in order\n")
			return
		default:
		}
	}
}

// traceInRepair stops the tracee and waits for its own death, while another thread turns repair mode on all the time.
func traceInRepair() error {
	const clauses = 2000 // whoever executes them takes a while
	tid, err := strconv.Atoi(os.Getenv(tracee))
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if _, err := KeepThread(); err != nil {
		return err
	}
	if err := PtraceSeize(tid, 0); err != nil {
		return err
	}
	if err := PtraceInterrupt(tid); err != nil {
		return err
	}
	if _, _, err := Wait(tid, false); err != nil {
		return err
	}
	// Two of them: the keeper has a list.
	for range 2 {
		w, err := NewTracersWill(clauses)
		if err != nil {
			return err
		}
		for clause := range clauses {
			w.SetSocketInt(clause, socketOfRole, SolTCP, TCPRepair, TCPRepairOffSilent)
		}
	}
	if err := SetSocketInt(socketOfRole, SolTCP, TCPRepair, TCPRepairOn); err != nil {
		return err
	}
	go func() {
		for {
			_ = SetSocketInt(socketOfRole, SolTCP, TCPRepair, TCPRepairOn)
		}
	}()
	os.Stdout.WriteString("in repair\n")
	for {
		time.Sleep(time.Millisecond)
	}
}

// TestKeptThreadTakesSignals sends signals to a thread that has a keeper.
func TestKeptThreadTakesSignals(t *testing.T) {
	const env = "KUP_TEST_KEPT"
	if os.Getenv(env) != "" {
		runtime.LockOSThread()
		stop, err := KeepThread()
		if err != nil {
			t.Fatal(err)
		}
		w, err := NewTracersWill(1)
		if err != nil {
			t.Fatal(err)
		}
		w.SetSocketInt(0, socketOfRole, SolSocket, SoReuseAddr, 1)
		go io.Copy(os.Stdout, os.Stdin)
		for begin := time.Now(); time.Since(begin) < time.Second; {
			unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGURG)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		stop()
		os.Stdout.WriteString("done\n")
		return
	}
	socket := connected(t)
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env, cmd.ExtraFiles, cmd.Stderr = append(os.Environ(), env+"=1"), []*os.File{socket}, os.Stderr
	in, _ := cmd.StdinPipe()
	pipe, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	out := bufio.NewReader(pipe)
	say := func(word string) {
		in.Write([]byte(word + "\n"))
		if line, err := out.ReadString('\n'); line != word+"\n" {
			t.Fatalf("expected %q, got %q, %v", word, line, err)
		}
	}
	say("before")
	if err := unix.Kill(cmd.Process.Pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !stopped(t, cmd.Process.Pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("SIGSTOP does not stop all threads")
		}
	}
	time.Sleep(50 * time.Millisecond)
	if !stopped(t, cmd.Process.Pid) {
		t.Error("it does not stay stopped")
	}
	if err := unix.Kill(cmd.Process.Pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	say("after")
	if line, err := out.ReadString('\n'); line != "done\n" {
		t.Errorf("it says %q, %v", line, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if reuse, err := SocketInt(int(socket.Fd()), SolSocket, SoReuseAddr); err != nil || reuse != 0 {
		t.Errorf("the will was executed though it was closed: SO_REUSEADDR %d, %v", reuse, err)
	}
}

// stopped tells whether all threads of a process are.
func stopped(t *testing.T, pid int) bool {
	t.Helper()
	folder := "/proc/" + strconv.Itoa(pid) + "/task/"
	threads, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(folder + thread.Name() + "/stat")
		if err != nil {
			continue
		}
		for i, b := range stat {
			if b == ')' && stat[i+2] != 'T' && stat[i+2] != 't' {
				return false
			}
		}
	}
	return true
}
