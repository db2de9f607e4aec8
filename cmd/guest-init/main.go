package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/vishvananda/netlink"
)

// Paths that internal/vm puts into the initramfs.
const (
	moduleList = "/etc/kup-guest/modules" // paths of modules, in the order of loading
	kupProgram = "/bin/kup"
	networkUp  = "/bin/network-up" // a link to this program
	stateDir   = "/data/kup"       // on the disk, which outlives a kernel
	searchPath = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
)

func main() {
	if filepath.Base(os.Args[0]) == filepath.Base(networkUp) {
		if err := bringNetworkUp(); err != nil {
			fmt.Fprintln(os.Stderr, "network-up:", err)
			os.Exit(1)
		}
		return
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest-init: this is the init of a kup guest, and must be pid 1")
		os.Exit(2)
	}
	// Each thread takes a pid, which an application that is to be restored may have had.
	runtime.GOMAXPROCS(1)
	os.Clearenv()
	for _, v := range []string{searchPath, "HOME=/root", "TERM=vt100"} {
		name, value, _ := strings.Cut(v, "=")
		os.Setenv(name, value)
	}
	kids := newChildren()
	boot(kids)
	select {}
}

// boot is the whole start-up. What fails is reported and does not stop the rest: a guest that answers can be asked why.
func boot(kids *children) {
	if err := mountBase(); err != nil {
		// Without /proc and /dev nothing below can work; pid 1's end shows on the console as a kernel panic.
		panic(err)
	}
	mark("init started")
	trouble := loadModules()
	agent, err := startAgent(kids)
	if err != nil {
		panic(errors.Join(err, trouble))
	}
	trouble = errors.Join(trouble,
		mountDisk(),
		kernel.SetHostname("kup-guest"),
		loopbackUp(),
	)
	trouble = errors.Join(trouble, startApplications(kids))
	if trouble != nil {
		mark("trouble: " + strings.ReplaceAll(trouble.Error(), "\n", "; "))
	}
	mark("boot done")
	agent.ready(trouble)
}

// mark says on the console how far the guest is.
func mark(what string) {
	fmt.Printf("kup-guest: %s uptime=%.2f\n", what, uptime())
}

// uptime is the time since the kernel started, in seconds.
func uptime() float64 {
	var up float64
	text, err := os.ReadFile("/proc/uptime")
	if err == nil {
		_, err = fmt.Sscan(string(text), &up)
	}
	if err != nil {
		return -1
	}
	return up
}

func mountBase() error {
	const safe = kernel.MountNoSuid | kernel.MountNoDev
	for _, m := range []struct {
		source, target, fstype string
		flags                  uintptr
		data                   string
	}{
		{"proc", "/proc", "proc", safe | kernel.MountNoExec, ""},
		{"sysfs", "/sys", "sysfs", safe | kernel.MountNoExec, ""},
		{"devtmpfs", "/dev", "devtmpfs", kernel.MountNoSuid, "mode=0755"},
		{"devpts", "/dev/pts", "devpts", kernel.MountNoSuid | kernel.MountNoExec, "gid=5,mode=620,ptmxmode=666"},
		{"tmpfs", "/dev/shm", "tmpfs", safe, "mode=1777"},
		{"tmpfs", "/run", "tmpfs", safe, "mode=0755"},
		{"tmpfs", "/tmp", "tmpfs", safe, "mode=1777"},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", safe | kernel.MountNoExec, ""},
	} {
		// /sys/fs/cgroup is there as soon as sysfs is; nothing can be made in it.
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := kernel.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
			return err
		}
	}
	// The customary names, which shells' <(...) and many programs open.
	for link, target := range map[string]string{
		"/dev/fd": "/proc/self/fd", "/dev/stdin": "fd/0", "/dev/stdout": "fd/1", "/dev/stderr": "fd/2",
	} {
		if err := os.Symlink(target, link); err != nil {
			return err
		}
	}
	return nil
}

func loadModules() error {
	f, err := os.Open(moduleList)
	if err != nil {
		return err
	}
	defer f.Close()
	var failed error
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		failed = errors.Join(failed, kernel.LoadModule(lines.Text()))
	}
	if failed = errors.Join(failed, lines.Err()); failed == nil {
		mark("modules loaded")
	}
	return failed
}

// mountDisk mounts the disk that the command line names.
func mountDisk() error {
	device, ok := bootParameter("kup.data")
	if !ok {
		return nil
	}
	if err := waitForFile(device, 20*time.Second); err != nil {
		return err
	}
	if err := os.MkdirAll("/data", 0o755); err != nil {
		return err
	}
	if err := kernel.Mount(device, "/data", "ext4", kernel.MountNoAtime, ""); err != nil {
		return err
	}
	mark("disk mounted")
	return os.Setenv("KUP_STATE_DIR", stateDir) // for kup boot, and for all that the agent runs
}

// startApplications lets kup restore what was captured, or start its applications. Kup decides when the network comes
// up; where it did not, because there is no kup or it failed, the guest brings it up itself.
func startApplications(kids *children) error {
	var failed error
	if _, err := os.Stat(kupProgram); err == nil {
		failed = runToEnd(kids, append([]string{kupProgram, "boot", "--network-up", networkUp}, bootOptions()...)...)
		if failed == nil {
			mark("applications started")
			return nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		failed = err
	}
	return errors.Join(failed, runToEnd(kids, networkUp))
}

// bootOptions are more options for kup boot, which the command line asks for.
func bootOptions() []string {
	options, _ := bootParameter("kup.boot")
	return strings.FieldsFunc(options, func(r rune) bool { return r == ',' })
}

// runToEnd runs a program whose output goes to the console.
func runToEnd(kids *children, args ...string) error {
	_, exited, err := kids.start(args, &os.ProcAttr{
		Env: os.Environ(), Dir: "/", Files: []*os.File{nil, os.Stdout, os.Stdout}, Sys: kernel.NewSession(),
	})
	if err != nil {
		return fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	if code := exitCode(<-exited); code != 0 {
		return fmt.Errorf("%s: exit code %d", strings.Join(args, " "), code)
	}
	return nil
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	return nil
}

// bootParameter is the value of name=value on the kernel's command line.
func bootParameter(name string) (value string, found bool) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return "", false
	}
	for word := range strings.FieldsSeq(string(line)) {
		if v, ok := strings.CutPrefix(word, name+"="); ok {
			value, found = v, true // The last one holds, as for the kernel's own parameters.
		}
	}
	return value, found
}

// waitForFile waits for a device that its driver finds a little after it was loaded.
func waitForFile(path string, most time.Duration) error {
	for end := time.Now().Add(most); ; time.Sleep(5 * time.Millisecond) {
		_, err := os.Stat(path)
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}
