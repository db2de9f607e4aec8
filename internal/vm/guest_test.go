package vm_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/vm"
	"github.com/kup-project/kup/internal/vm/vmtest"
	"github.com/kup-project/kup/internal/vm/wire"
)

func TestGuestBootsAndRunsCommands(t *testing.T) {
	for _, line := range []string{"6.1", "6.12"} {
		t.Run(line, func(t *testing.T) {
			k := vmtest.Kernel(t, line)
			began := time.Now()
			initrd := vmtest.Initramfs(t, vm.Initramfs{Kernel: k})
			t.Logf("initramfs: %v", time.Since(began))
			began = time.Now()
			g := vmtest.Start(t, vm.Config{Kernel: k, Initramfs: initrd})
			t.Logf("boot: %v", time.Since(began))
			for _, m := range g.Marks() {
				t.Logf("%v %s %.2f", m.At.Sub(began), m.What, m.Uptime)
			}
			r, err := g.Run(t.Context(), "sh", "-c", "echo out; echo err >&2; exit 3")
			if want := (vm.Result{Stdout: "out\n", Stderr: "err\n", ExitCode: 3}); err != nil || r != want {
				t.Errorf("Run: %+v, %v; want %+v", r, err, want)
			}
			release, err := g.Output(t.Context(), "uname", "-r")
			if err != nil || strings.TrimSpace(release) != k.Release {
				t.Errorf("uname -r: %q, %v; want %s", release, err, k.Release)
			}
		})
	}
}

func TestHostTalksToMemcachedInGuest(t *testing.T) {
	network := vmtest.Net(t)
	k := vmtest.Kernel(t, "6.12")
	initrd := vmtest.Initramfs(t, vm.Initramfs{Kernel: k, Programs: []string{"/usr/bin/memcached"}})
	g := vmtest.Start(t, vm.Config{Kernel: k, Initramfs: initrd, Net: network})
	if _, err := g.Output(t.Context(), "memcached", "-d", "-u", "memcache", "-l", vm.GuestAddr+","+vm.GuestAddr6); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{vm.GuestAddr + ":11211", "[" + vm.GuestAddr6 + "]:11211"} {
		conn, err := network.DialUntilUp(t.Context(), address, 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "set k 0 0 5\r\nhello\r\nget k\r\nquit\r\n"); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(conn)
		if want := "STORED\r\nVALUE k 0 5\r\nhello\r\nEND\r\n"; err != nil || string(got) != want {
			t.Errorf("%s: memcached said %q, %v; want %q", address, got, err, want)
		}
	}
}

func TestDiskKeepsFilesFromGuestToGuest(t *testing.T) {
	k := vmtest.Kernel(t, "6.1")
	initrd := vmtest.Initramfs(t, vm.Initramfs{Kernel: k})
	given := t.TempDir()
	if err := os.WriteFile(filepath.Join(given, "given"), []byte("from the host"), 0o640); err != nil {
		t.Fatal(err)
	}
	config := vm.Config{Kernel: k, Initramfs: initrd, Disk: vmtest.Disk(t, 64, given)}
	first := vmtest.Start(t, config)
	if _, err := first.Output(t.Context(), "sh", "-c", "echo kept > /data/file"); err != nil {
		t.Fatal(err)
	}
	if size, err := first.Output(t.Context(), "stat", "-f", "-c", "%S", vm.DiskMount); err != nil || size != "4096\n" {
		t.Errorf("block size %q, %v; want 4096", size, err)
	}
	if err := first.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := vmtest.Start(t, config)
	for path, want := range map[string]string{"/data/file": "kept\n", "/data/given": "from the host"} {
		if got, err := second.ReadFile(t.Context(), path); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
}

func TestFilesTravelToGuestAndBack(t *testing.T) {
	k := vmtest.Kernel(t, "6.12")
	g := vmtest.Start(t, vm.Config{Kernel: k, Initramfs: vmtest.Initramfs(t, vm.Initramfs{Kernel: k})})
	content := make([]byte, 3*wire.ChunkSize+17)
	if _, err := rand.Read(content); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o751); err != nil {
		t.Fatal(err)
	}
	when := time.Unix(1234567890, 0)
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := g.Push(t.Context(), path, "/run/new/file"); err != nil {
		t.Fatal(err)
	}
	t.Logf("push of 96 KB: %v", time.Since(began))
	if got, err := g.Output(t.Context(), "stat", "-c", "%a %Y %s", "/run/new/file"); err != nil || got != "751 1234567890 98321\n" {
		t.Errorf("mode, time, size: %q, %v", got, err)
	}
	began = time.Now()
	if got, err := g.ReadFile(t.Context(), "/run/new/file"); err != nil || !bytes.Equal(got, content) {
		t.Errorf("ReadFile: %d bytes, %v; want the %d that were pushed", len(got), err, len(content))
	}
	t.Logf("read of 96 KB: %v", time.Since(began))
	r, err := g.RunCommand(t.Context(), vm.Command{Args: []string{"sh", "-c", "cat; cat; echo $X"}, Stdin: content[:54321], Env: []string{"X=y"}})
	if err != nil || r.Stdout != string(content[:54321])+"y\n" {
		t.Errorf("standard input came back as %d bytes, %v", len(r.Stdout), err)
	}
	if _, err := g.ReadFile(t.Context(), "/nowhere"); err == nil {
		t.Error("ReadFile of a missing file: no error")
	}
	if _, err := g.Run(t.Context(), "/nowhere"); err == nil {
		t.Error("Run of a missing program: no error")
	}
}

func TestCommandsEndAsTheyShould(t *testing.T) {
	k := vmtest.Kernel(t, "6.12")
	g := vmtest.Start(t, vm.Config{Kernel: k, Initramfs: vmtest.Initramfs(t, vm.Initramfs{Kernel: k})})

	t.Run("signal", func(t *testing.T) {
		if r, err := g.Run(t.Context(), "sh", "-c", "kill -TERM $$"); err != nil || r.ExitCode != 128+15 {
			t.Errorf("exit code %d, %v; want 143", r.ExitCode, err)
		}
	})
	t.Run("a daemon left behind does not hold the command", func(t *testing.T) {
		r, err := g.Run(t.Context(), "sh", "-c", "(while :; do echo noise; sleep 0.2; done) & echo $!")
		if err != nil {
			t.Fatal(err)
		}
		pid, _, _ := strings.Cut(strings.ReplaceAll(r.Stdout, "noise\n", ""), "\n")
		if _, err := g.Output(t.Context(), "sh", "-c", "sleep 1; kill "+pid); err != nil {
			t.Errorf("the daemon did not outlive its command: %v", err)
		}
	})
	t.Run("its context's end ends it", func(t *testing.T) {
		started := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-started
			cancel()
		}()
		notify := writerFunc(func(p []byte) (int, error) { close(started); return len(p), nil })
		c := vm.Command{Args: []string{"sh", "-c", "echo started; exec sleep 4242"}, Stdout: notify}
		if _, err := g.RunCommand(ctx, c); !errors.Is(err, context.Canceled) {
			t.Errorf("RunCommand: %v, want context.Canceled", err)
		}
		if _, err := g.Output(t.Context(), "sh", "-c", "while pgrep -f 'sleep 424[2]'; do sleep 0.1; done"); err != nil {
			t.Error(err)
		}
	})
	t.Run("orphans are reaped", func(t *testing.T) {
		const script = "(sleep 0.3 & sleep 0.3 &) ; sleep 1; ps -o stat | grep -c Z; true"
		if out, err := g.Output(t.Context(), "sh", "-c", script); err != nil || out != "0\n" {
			t.Errorf("zombies: %q, %v", out, err)
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
