package vm

import (
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/cpio"
)

func TestReleasesAreOrderedByTheirNumbers(t *testing.T) {
	want := []string{"6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64", "6.1.0-56-cloud-arm64", "6.12.99+deb12-x", "6.12.117+deb12-x"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, compareReleases)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("order (-want +got):\n%s", d)
	}
}

func TestFindKernelSaysWhatToDo(t *testing.T) {
	t.Setenv("KUP_KERNELS", t.TempDir())
	for line, remedy := range map[string]string{"6.1": "make setup", "6.1-generic": "setup.sh generic"} {
		_, err := FindKernel(line)
		if err == nil || !strings.Contains(err.Error(), remedy) {
			t.Errorf("FindKernel(%q) in an empty cache: %v; want the remedy named", line, err)
		}
	}
}

func TestModulesComeAfterWhatTheyNeed(t *testing.T) {
	for _, line := range []string{"6.1", "6.12"} {
		k, err := FindKernel(line)
		if err != nil {
			t.Fatal(err)
		}
		available, err := openModuleTree(k.Modules)
		if err != nil {
			t.Fatal(err)
		}
		modules, err := available.resolve(DefaultModules)
		if err != nil {
			t.Fatal(err)
		}
		at := map[string]int{}
		for i, m := range modules {
			if _, twice := at[m.name]; twice {
				t.Errorf("%s: %s is listed twice", line, m.name)
			}
			at[m.name] = i
			if !strings.HasSuffix(m.path, ".ko") || !strings.HasPrefix(string(m.content), "\x7fELF") {
				t.Errorf("%s: %s is no plain module", line, m.path)
			}
		}
		for needed, by := range map[string]string{"nfnetlink": "nf_tables", "net_failover": "virtio_net", "inet_diag": "tcp_diag"} {
			first, ok := at[needed]
			if !ok || first > at[by] {
				t.Errorf("%s: %s is not loaded before %s: %v", line, needed, by, at)
			}
		}
		if _, err := available.resolve([]string{"no_such_module"}); err == nil {
			t.Errorf("%s: resolving a module that does not exist: no error", line)
		}
	}
}

func TestLibrariesOfDynamicProgramAreFound(t *testing.T) {
	found := func(path string) []string {
		l, err := newLibraries()
		if err != nil {
			t.Fatal(err)
		}
		if err := l.add(path); err != nil {
			t.Fatal(err)
		}
		return l.found
	}
	const program = "/usr/bin/memcached"
	got := found(program)
	// The dynamic linker's own answer is the judge.
	out, err := exec.Command("/lib64/ld-linux-x86-64.so.2", "--list", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if _, path, ok := strings.Cut(line, "=> "); ok {
			path, _, _ = strings.Cut(path, " (")
			if !slices.Contains(got, path) {
				t.Errorf("%s needs %s, which is not among %v", program, path, got)
			}
		}
	}
	if got := found(busybox); len(got) != 1 {
		t.Errorf("a static program needs %v, want itself alone", got)
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#! /bin/bash -e\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := found(script); !slices.Contains(got, "/bin/bash") {
		t.Errorf("a script needs %v, want its interpreter among them", got)
	}
	l, err := newLibraries()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.add("/etc/passwd"); err == nil {
		t.Error("a text file as a program: no error")
	}
}

func TestTreeFollowsItsOwnLinks(t *testing.T) {
	tree := newTree()
	tree.addDirectory("usr/bin")
	tree.addLink("bin", "usr/bin")
	tree.addText("/bin/a", "1")
	tree.addLink("/srv", "/bin")
	tree.addText("srv/b/c", "2")
	tree.addLink("/bin/d", "a")
	want := []string{"bin", "srv", "usr", "usr/bin", "usr/bin/a", "usr/bin/b", "usr/bin/b/c", "usr/bin/d"}
	if d := cmp.Diff(want, slices.Sorted(maps.Keys(tree.records))); d != "" {
		t.Errorf("names (-want +got):\n%s", d)
	}
	for path, want := range map[string]bool{"/bin/a": true, "/usr/bin/a": true, "/srv/b": true, "/srv/e": false} {
		if tree.has(path) != want {
			t.Errorf("has(%s) is %v", path, !want)
		}
	}
}

func TestInitramfsHoldsHostFilesWithTheirTimes(t *testing.T) {
	k, err := FindKernel("6.12")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	real := filepath.Join(dir, "real-program")
	if err := os.WriteFile(real, []byte("#!/bin/bash\n"), 0o4755); err != nil {
		t.Fatal(err)
	}
	when := time.Unix(1500000000, 987654321)
	if err := os.Chtimes(real, when, when); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "program")
	if err := os.Symlink("real-program", link); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "initrd")
	root := Initramfs{Kernel: k, Init: real, Programs: []string{link}, Files: map[string]string{"/bin/own": real},
		Texts: map[string]string{"/etc/hosts": "mine\n"}}
	if err := root.Write(path); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records := map[string]cpio.Record{}
	err = cpio.ForEachRecord(cpio.Newc.Reader(f), func(r cpio.Record) error {
		if parent := filepath.Dir(r.Name); parent != "." && records[parent].Mode&cpio.S_IFMT != cpio.S_IFDIR {
			t.Errorf("%s comes before its folder", r.Name)
		}
		records[r.Name] = r
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(dir, "/")
	for _, name := range []string{"init", "usr/bin/own", name + "/real-program"} {
		r := records[name]
		if r.MTime != 1500000000 || r.FileSize != 12 || r.Mode != cpio.S_IFREG|0o755 || r.UID != 0 || r.GID != 0 {
			t.Errorf("%s: %v; want time 1500000000, 12 bytes, mode 0755, root's", name, r.Info)
		}
	}
	for name, want := range map[string]string{
		name + "/program": "real-program", "bin": "usr/bin", "usr/bin/sh": "busybox", "etc/hosts": "mine\n",
		"lib64": "usr/lib64", "usr/bin/network-up": "/init",
	} {
		got, err := io.ReadAll(io.NewSectionReader(records[name], 0, int64(records[name].FileSize)))
		if err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"usr/bin/bash", "usr/lib/x86_64-linux-gnu/libc.so.6"} {
		if records[name].Mode&cpio.S_IFMT != cpio.S_IFREG {
			t.Errorf("%s is missing", name)
		}
	}
}
