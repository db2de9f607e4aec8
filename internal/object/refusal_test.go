package object

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/refuse"
	"github.com/kup-project/kup/internal/tracee"
)

// refusals are what a process can hold that is refused, as the system calls that make it, and words of the sentence.
var refusals = []struct {
	name  string
	calls func(b *tracee.Batch, dir string)
	words string
}{
	{"inotify", func(b *tracee.Batch, _ string) {
		b.Must("inotify_init1", kernel.SysInotifyInit1, 0)
	}, "inotify instance"},
	{"io_uring", func(b *tracee.Batch, _ string) {
		b.Must("io_uring_setup", kernel.SysIoUringSetup, 8, b.Space(120))
	}, "close the ring"},
	{"pidfd", func(b *tracee.Batch, _ string) {
		b.Must("pidfd_open", kernel.SysPidfdOpen, 1, 0)
	}, "stands for another process"},
	{"userfaultfd", func(b *tracee.Batch, _ string) {
		b.Must("userfaultfd", kernel.SysUserfaultfd, 1)
	}, "userfaultfd"},
	{"fanotify", func(b *tracee.Batch, _ string) {
		b.Must("fanotify_init", kernel.SysFanotifyInit, 0, 0)
	}, "fanotify group"},
	{"netlink", func(b *tracee.Batch, _ string) {
		b.Must("socket", kernel.SysSocket, 16, 3, 0)
	}, "family netlink"},
	{"terminal", func(b *tracee.Batch, _ string) {
		open(b, "/dev/ptmx", kernel.ORdWr|kernel.ONoCTTY)
	}, "terminal"},
	{"reading the kernel's log", func(b *tracee.Batch, _ string) {
		open(b, "/dev/kmsg", kernel.ORdOnly)
	}, "reads the kernel's log"},
	{"file of a process", func(b *tracee.Batch, _ string) {
		open(b, "/proc/self/status", kernel.ORdOnly)
	}, "belongs to a process"},
	{"trigger", func(b *tracee.Batch, _ string) {
		open(b, "/proc/pressure/memory", kernel.ORdWr)
	}, "pressure stalls"},
	{"namespace", func(b *tracee.Batch, _ string) {
		open(b, "/proc/self/ns/net", kernel.ORdOnly)
	}, "a namespace"},
	{"deleted directory", func(b *tracee.Batch, dir string) {
		path := b.String(filepath.Join(dir, "sub"))
		b.Must("mkdir", kernel.SysMkdirat, kernel.AtFDCwd, path, 0o700)
		b.Must("open", kernel.SysOpenat, kernel.AtFDCwd, path, kernel.ODirectory)
		b.Must("rmdir", kernel.SysUnlinkat, kernel.AtFDCwd, path, 0x200) // AT_REMOVEDIR
	}, "deleted directory"},
	{"deleted O_PATH", func(b *tracee.Batch, dir string) {
		path := b.String(filepath.Join(dir, "file"))
		b.Must("open", kernel.SysOpenat, kernel.AtFDCwd, path, kernel.OCreat, 0o600)
		b.Must("open", kernel.SysOpenat, kernel.AtFDCwd, path, kernel.OPath)
		b.Must("unlink", kernel.SysUnlinkat, kernel.AtFDCwd, path, 0)
	}, "O_PATH"},
	{"lease", func(b *tracee.Batch, dir string) {
		fd := open(b, filepath.Join(dir, "leased"), kernel.OCreat)
		const setLease, readLease = 1024, 0
		b.Must("F_SETLEASE", kernel.SysFcntl, fd, setLease, readLease)
	}, "lock of kind LEASE"},
	{"foreign pipe", func(b *tracee.Batch, _ string) {
		r, w, err := kernel.Pipe()
		if err != nil {
			panic(err)
		}
		defer kernel.Close(r) // the seed has a duplicate; w stays with the test until its process ends
		_ = w
		pidfd := b.Must("pidfd_open", kernel.SysPidfdOpen, os.Getpid(), 0)
		b.Must("pidfd_getfd", kernel.SysPidfdGetfd, pidfd, r, 0)
		b.Must("close", kernel.SysClose, pidfd)
		if err := b.Run(); err != nil {
			panic(err)
		}
	}, fmt.Sprintf("held by pid %d", os.Getpid())},
	{"shared eventfd", func(b *tracee.Batch, _ string) {
		ours, err := kernel.EventFD(false)
		if err != nil {
			panic(err)
		}
		pidfd := b.Must("pidfd_open", kernel.SysPidfdOpen, os.Getpid(), 0)
		b.Must("pidfd_getfd", kernel.SysPidfdGetfd, pidfd, ours, 0)
		b.Must("close", kernel.SysClose, pidfd)
	}, fmt.Sprintf("is shared with pid %d", os.Getpid())},
}

func open(b *tracee.Batch, path string, flags int) *tracee.Result {
	return b.Must("open "+path, kernel.SysOpenat, kernel.AtFDCwd, b.String(path), flags, 0o600)
}

func TestRefusalsSayWhoHoldsWhat(t *testing.T) {
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			tracer := tracee.New()
			defer tracer.Close()
			seed, err := tracer.NewSeed(tracee.Hole{Addr: 0x7000_0000, Size: 64 << 10})
			if err != nil {
				t.Fatal(err)
			}
			defer seed.Kill()
			if err := Check([]int{seed.PID()}); err != nil {
				t.Fatalf("before: %v", err)
			}
			b := tracee.NewBatch(seed)
			r.calls(b, t.TempDir())
			if err := b.Run(); err != nil {
				t.Fatal(err)
			}
			err = Check([]int{seed.PID()})
			if !errors.Is(err, refuse.ErrRefused) {
				t.Fatalf("not refused: %v", err)
			}
			if who := fmt.Sprintf("pid %d (", seed.PID()); !strings.Contains(err.Error(), who) || !strings.Contains(err.Error(), r.words) {
				t.Errorf("the refusal names not %q and %q:\n%v", who, r.words, err)
			}
		})
	}
}

// What a restore finds may not be what the application left.
func TestChangedFilesAreRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(path string) error
		words  string // none: accepted
	}{
		{"unchanged", func(string) error { return nil }, ""},
		{"gone", os.Remove, "is gone"},
		{"truncated", func(path string) error { return os.Truncate(path, 2) }, "has 2 bytes and had 10"},
		{"another type", func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }, "another type"},
		{"grown", func(path string) error { return os.WriteFile(path, []byte("0123456789more"), 0o600) }, ""},
	} {
		for _, mode := range []int{kernel.ORdOnly, kernel.OWrOnly | kernel.OAppend} {
			t.Run(fmt.Sprintf("%s, flags %d", c.name, mode), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "file")
				if err := os.WriteFile(path, []byte("0123456789"), 0o600); err != nil {
					t.Fatal(err)
				}
				r := rebuildOf(t, path, mode)
				if err := c.change(path); err != nil {
					t.Fatal(err)
				}
				words := c.words
				if c.name == "grown" && mode == kernel.ORdOnly {
					words = "was changed"
				}
				err := r.Create()
				r.Close()
				switch {
				case words == "" && err != nil:
					t.Error(err)
				case words != "" && (!errors.Is(err, refuse.ErrRefused) || !strings.Contains(err.Error(), words)):
					t.Errorf("want a refusal with %q: %v", words, err)
				}
			})
		}
	}
}

// rebuildOf opens a file and prepares to rebuild that description alone.
func rebuildOf(t *testing.T, path string, flags int) *Rebuild {
	t.Helper()
	fd, err := kernel.Open(path, flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Close(fd)
	d, err := readDescriptor(os.Getpid(), fd, "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.duplicate(); err != nil {
		t.Fatal(err)
	}
	defer d.release()
	c := &Capture{}
	one := captured{d: d, file: &image.OpenFile{ID: 1}, handler: regular}
	if err := c.describe(&one); err != nil {
		t.Fatal(err)
	}
	return &Rebuild{State: &image.State{Files: []image.OpenFile{*one.file}}}
}

func TestFilesInMemoryDoNotOutliveTheKernel(t *testing.T) {
	tracer := tracee.New()
	defer tracer.Close()
	dir, err := os.MkdirTemp("/dev/shm", "kup-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	seed, err := tracer.NewSeed(tracee.Hole{Addr: 0x7000_0000, Size: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer seed.Kill()
	b := tracee.NewBatch(seed)
	open(b, dir, kernel.ODirectory)
	open(b, "/dev/null", kernel.ORdWr)
	deleted := filepath.Join(dir, "deleted")
	open(b, deleted, kernel.OCreat|kernel.ORdWr)
	b.Must("unlink", kernel.SysUnlinkat, kernel.AtFDCwd, b.String(deleted), 0)
	if err := b.Run(); err != nil {
		t.Fatal(err)
	}
	if err := CheckOutlive([]int{seed.PID()}); err != nil {
		t.Errorf("a directory, a device, a deleted file: %v", err)
	}
	path := filepath.Join(dir, "file")
	open(b, path, kernel.OCreat|kernel.ORdWr)
	if err := b.Run(); err != nil {
		t.Fatal(err)
	}
	err = CheckOutlive([]int{seed.PID()})
	if !errors.Is(err, refuse.ErrRefused) || !strings.Contains(err.Error(), path) {
		t.Errorf("want a refusal that names %s: %v", path, err)
	}
}
