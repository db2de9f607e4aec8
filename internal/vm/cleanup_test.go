package vm_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/vm"
	"github.com/kup-project/kup/internal/vm/vmtest"
)

// Set in the environment of this test binary when it plays a program that starts a guest and then dies: what the guest
// needs, as "KERNELLINE INITRD LOG".
const abandonGuest = "KUP_TEST_ABANDON_GUEST"

func TestMain(m *testing.M) {
	if what := os.Getenv(abandonGuest); what != "" {
		if err := startAndAbandon(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// startAndAbandon prints QEMU's pid and the id of the guest's network namespace, and ends by a panic.
func startAndAbandon(what string) error {
	words := strings.Fields(what)
	k, err := vm.FindKernel(words[0])
	if err != nil {
		return err
	}
	wire, err := vm.NewNet()
	if err != nil {
		return err
	}
	g, err := vm.Start(context.Background(), vm.Config{Kernel: k, Initramfs: words[1], Log: words[2], Net: wire})
	if err != nil {
		return err
	}
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", g.Pid()))
	if err != nil {
		return err
	}
	fmt.Println(g.Pid(), namespace)
	panic("the program that started the guest fails")
}

func TestNothingStaysAfterClose(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // other guests may be starting in the usual place
	k := vmtest.Kernel(t, "6.1")
	wire, err := vm.NewNet()
	if err != nil {
		t.Fatal(err)
	}
	g := vmtest.Start(t, vm.Config{Kernel: k, Initramfs: vmtest.Initramfs(t, vm.Initramfs{Kernel: k}), Net: wire})
	pid := g.Pid()
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		t.Fatal(err)
	}
	g.Close()
	g.Close()
	if err := wire.Close(); err != nil {
		t.Error(err)
	}
	expectGone(t, pid, namespace)
	if _, err := g.Run(t.Context(), "true"); !errors.Is(err, vm.ErrEnded) {
		t.Errorf("Run after Close: %v, want ErrEnded", err)
	}
}

func TestNothingStaysAfterPanic(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // other guests may be starting in the usual place
	k := vmtest.Kernel(t, "6.1")
	initrd := vmtest.Initramfs(t, vm.Initramfs{Kernel: k})
	log := filepath.Join(t.TempDir(), "console.log")
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), abandonGuest+"=6.1 "+initrd+" "+log)
	out, err := cmd.Output()
	failed, ok := errors.AsType[*exec.ExitError](err)
	if !ok || !strings.Contains(string(failed.Stderr), "the program that started the guest fails") {
		t.Fatalf("the program ended with %v, not with its panic", err)
	}
	var pid int
	var namespace string
	if _, err := fmt.Sscan(string(out), &pid, &namespace); err != nil {
		t.Fatalf("the program said %q: %v", out, err)
	}
	expectGone(t, pid, namespace)
}

// expectGone waits until a QEMU process and its network namespace, and with it the tap device, are gone.
func expectGone(t *testing.T, pid int, namespace string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		users, err := usersOf(pid, namespace)
		if err != nil {
			t.Fatal(err)
		}
		if len(users) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("still there: %s", strings.Join(users, ", "))
		}
	}
	sockets, err := filepath.Glob(filepath.Join(os.TempDir(), "kup-vm-*", "agent"))
	if err != nil || len(sockets) > 0 {
		t.Errorf("sockets left behind: %v, %v", sockets, err)
	}
}

// usersOf names what is left of a QEMU process, and whoever lives in or holds a network namespace.
func usersOf(pid int, namespace string) ([]string, error) {
	var users []string
	if running(pid) {
		users = append(users, fmt.Sprintf("QEMU, pid %d", pid))
	}
	for _, pattern := range []string{"/proc/[0-9]*/task/[0-9]*/ns/net", "/proc/[0-9]*/fd/[0-9]*"} {
		links, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, link := range links {
			target, err := os.Readlink(link)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, kernel.ESRCH) || errors.Is(err, fs.ErrPermission) {
				continue // it ended meanwhile, or has more rights than this test and is none of its children
			}
			if err != nil {
				return nil, err
			}
			if target == namespace {
				users = append(users, link)
			}
		}
	}
	return users, nil
}

// running says whether a process exists and is more than a zombie that nobody has waited for.
func running(pid int) bool {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if state, ok := strings.CutPrefix(lines.Text(), "State:"); ok {
			return !strings.HasPrefix(strings.TrimSpace(state), "Z")
		}
	}
	return false
}

func TestKernelPanicIsReportedWithTheConsole(t *testing.T) {
	k := vmtest.Kernel(t, "6.1")
	g := vmtest.Start(t, vm.Config{Kernel: k, Initramfs: vmtest.Initramfs(t, vm.Initramfs{Kernel: k})})
	_, err := g.Run(t.Context(), "sh", "-c", "echo c > /proc/sysrq-trigger")
	if !errors.Is(err, vm.ErrEnded) || !strings.Contains(err.Error(), "sysrq triggered crash") {
		t.Errorf("Run of a crash: %v; want ErrEnded and the console's last lines", err)
	}
}
