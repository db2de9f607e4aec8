package kernel

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// killGroup kills a process that leads a process group with that, as timeout(1) and shells do.
func killGroup(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := Kill(-cmd.Process.Pid, SIGKILL); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
}

// TestWillIsExecutedOnDeath kills a process that has a connection in repair mode and expects the connection to be in order
// afterwards.
func TestWillIsExecutedOnDeath(t *testing.T) {
	const env = "KUP_TEST_WILL"
	if dir := os.Getenv(env); dir != "" {
		dieInRepair(t, dir)
		return
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	file, err := server.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := SetSocketInt(int(file.Fd()), SolSocket, SoReuseAddr, 1); err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	for path, content := range map[string]string{from: "new", to: "old"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dying := exec.Command(os.Args[0], "-test.run=^TestWillIsExecutedOnDeath$")
	dying.Env = append(os.Environ(), env+"="+dir)
	dying.ExtraFiles = []*os.File{file}
	dying.SysProcAttr = NewSession()
	out, err := dying.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := dying.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if repair, err := SocketInt(int(file.Fd()), SolTCP, TCPRepair); err != nil || repair != 1 {
		t.Fatalf("the socket should be in repair: %d, %v", repair, err)
	}
	killGroup(t, dying)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		// The last clause in force.
		if reuse, err := SocketInt(int(file.Fd()), SolSocket, SoReuseAddr); err == nil && reuse == 1 {
			break
		}
	}
	repair, err := SocketInt(int(file.Fd()), SolTCP, TCPRepair)
	if err != nil || repair != 0 {
		t.Errorf("repair mode after death: %d, %v", repair, err)
	}
	reuse, err := SocketInt(int(file.Fd()), SolSocket, SoReuseAddr)
	if err != nil || reuse != 1 {
		t.Errorf("SO_REUSEADDR after death: %d, %v", reuse, err)
	}
	if content, err := os.ReadFile(to); err != nil || string(content) != "new" {
		t.Errorf("the file that was to be replaced: %q, %v", content, err)
	}
	if _, err := server.Write([]byte("alive")); err != nil {
		t.Errorf("the connection is broken: %v", err)
	}
}

func dieInRepair(t *testing.T, dir string) {
	const socket = 3
	w, err := NewWill(4)
	if err != nil {
		t.Fatal(err)
	}
	w.SetSocketInt(0, socket, SolTCP, TCPRepair, TCPRepairOffSilent)
	if err := w.Rename(1, filepath.Join(dir, "from"), filepath.Join(dir, "to")); err != nil {
		t.Fatal(err)
	}
	w.SetSocketInt(2, socket, SolSocket, SoReuseAddr, 1)
	w.SetSocketInt(3, socket, SolSocket, SoReuseAddr, 0)
	w.Revoke(3)
	if err := SetSocketInt(socket, SolTCP, TCPRepair, TCPRepairOn); err != nil {
		t.Fatal(err)
	}
	os.Stdout.WriteString("in repair\n")
	time.Sleep(time.Hour)
}

func TestWillEndsQuietly(t *testing.T) {
	before, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		w, err := NewWill(4)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	after, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	if len(after) != len(before) {
		t.Errorf("%d descriptors before, %d after", len(before), len(after))
	}
}

// TestKillOnDeathKillsAll kills a process with its control group, as systemd does.
func TestKillOnDeathKillsAll(t *testing.T) {
	const env = "KUP_TEST_KILL_ON_DEATH"
	if pids := os.Getenv(env); pids != "" {
		var victims []int
		for _, pid := range strings.Fields(pids) {
			n, err := strconv.Atoi(pid)
			if err != nil {
				t.Fatal(err)
			}
			victims = append(victims, n)
		}
		if _, err := KillOnDeath(victims); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("armed\n")
		time.Sleep(time.Hour)
	}
	var victims []*exec.Cmd
	pids := ""
	for range 3 {
		victim := exec.Command("sleep", "60")
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		victims = append(victims, victim)
		pids += strconv.Itoa(victim.Process.Pid) + " "
	}
	dying := exec.Command(os.Args[0], "-test.run=^TestKillOnDeathKillsAll$")
	dying.Env = append(os.Environ(), env+"="+pids)
	group := controlGroup(t)
	dying.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	out, err := dying.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := dying.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "armed\n" {
		t.Fatalf("the dying process said %q, %v", line, err)
	}
	if err := os.WriteFile(filepath.Join(group.Name(), "cgroup.kill"), []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	dying.Wait()
	for _, v := range victims {
		v.Wait()
		if v.ProcessState.String() != "signal: killed" {
			t.Errorf("pid %d: %v", v.Process.Pid, v.ProcessState)
		}
	}
}

// controlGroup makes a control group of version 2.
func controlGroup(t *testing.T) *os.File {
	t.Helper()
	for _, mount := range UnifiedMounts {
		if _, err := os.Stat(filepath.Join(mount, "cgroup.procs")); err != nil {
			continue
		}
		path := filepath.Join(mount, "kup-test-"+strconv.Itoa(os.Getpid()))
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
		})
		group, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { group.Close() })
		return group
	}
	t.Fatal("there are no control groups of version 2 here: mount -t cgroup2 none ", UnifiedMounts[0])
	return nil
}
