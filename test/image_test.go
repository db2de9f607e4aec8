package test

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestDamagedImageIsNotAcceptable damages copies of a good image in every way, and expects that nobody restores them.
func TestDamagedImageIsNotAcceptable(t *testing.T) {
	p := start(t, buildC(t, "object/deleted"))
	p.waitReady(t)
	good, r := p.checkpoint(t, false)
	if r.code != exitDone {
		t.Fatalf("kup checkpoint: exit code %d\n%s", r.code, r.output)
	}
	files := filesOf(t, good)
	damages := []struct {
		name   string
		damage func(t *testing.T, dir string)
	}{
		{"other owner", func(t *testing.T, dir string) { chown(t, dir, 1234) }},
		{"other owner of the manifest", func(t *testing.T, dir string) { chown(t, filepath.Join(dir, "manifest"), 1234) }},
		{"directory that others can read", func(t *testing.T, dir string) { chmod(t, dir, 0o755) }},
		{"manifest that others can write", func(t *testing.T, dir string) { chmod(t, filepath.Join(dir, "manifest"), 0o666) }},
		{"future version", futureVersion},
		{"no manifest", func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "manifest")) }},
		{"empty directory", func(t *testing.T, dir string) {
			for _, name := range files {
				remove(t, filepath.Join(dir, name))
			}
		}},
	}
	for _, name := range files {
		damages = append(damages, []struct {
			name   string
			damage func(t *testing.T, dir string)
		}{
			{"flipped byte in " + name, func(t *testing.T, dir string) { flip(t, filepath.Join(dir, name)) }},
			{"end missing of " + name, func(t *testing.T, dir string) { truncate(t, filepath.Join(dir, name), 1) }},
			{"half missing of " + name, func(t *testing.T, dir string) { truncate(t, filepath.Join(dir, name), 2) }},
			{"missing " + name, func(t *testing.T, dir string) { remove(t, filepath.Join(dir, name)) }},
		}...)
	}
	for _, d := range damages {
		t.Run(strings.ReplaceAll(d.name, " ", "_"), func(t *testing.T) {
			dir := p.image(t)
			if out, err := exec.Command("cp", "-a", "--sparse=always", good, dir).CombinedOutput(); err != nil {
				t.Fatalf("cp: %v\n%s", err, out)
			}
			d.damage(t, dir)
			for _, command := range [][]string{{"verify", dir}, {"restore", "--dir", dir}} {
				failsCleanly(t, p, exitUnusable, command...)
			}
			if err := os.RemoveAll(filepath.Dir(dir)); err != nil {
				t.Fatal(err)
			}
		})
	}
	// After all this the good one is still good.
	kupDone(t, "verify", good)
	p.restore(t, good)
	p.finish(t)
}

// failsCleanly runs kup and expects this exit code, a sentence, no process, and no packet filter table.
func failsCleanly(t *testing.T, p *program, code int, command ...string) string {
	t.Helper()
	tables, before := nftTables(t), pids()
	r := kup(t, command...)
	if r.code != code {
		t.Errorf("kup %s: exit code, expected %d, got %d\n%s", strings.Join(command, " "), code, r.code, r.output)
	}
	if words := strings.Fields(r.output); len(words) < 5 {
		t.Errorf("kup %s: expected a sentence, got %q", strings.Join(command, " "), r.output)
	}
	if strings.Contains(r.output, "panic") || strings.Contains(r.output, "goroutine") {
		t.Errorf("kup %s panics:\n%s", strings.Join(command, " "), r.output)
	}
	if left := members(p.dir); len(left) > 0 {
		t.Errorf("kup %s left the processes %v", strings.Join(command, " "), left)
		end(t, left)
	}
	for _, pid := range tree(os.Getpid())[1:] {
		if !slices.Contains(before, pid) && !reaped(pid) && alive(pid) {
			t.Errorf("kup %s left pid %d", strings.Join(command, " "), pid)
			end(t, []int{pid})
		}
	}
	if after := nftTables(t); after != tables {
		t.Errorf("kup %s: packet filter tables, expected %q, got %q", strings.Join(command, " "), tables, after)
	}
	return r.output
}

// checkpointed starts a program, gives it some time, and ends it with a checkpoint.
func checkpointed(t *testing.T, source string) (p *program, image string) {
	t.Helper()
	p = start(t, buildC(t, source))
	p.waitReady(t)
	image, r := p.checkpoint(t, false)
	if r.code != exitDone {
		t.Fatalf("kup checkpoint: exit code %d\n%s", r.code, r.output)
	}
	return p, image
}

// TestRestoreWithPidTakenIsAConflict occupies the pid of the root, then restores after all.
func TestRestoreWithPidTakenIsAConflict(t *testing.T) {
	p, image := checkpointed(t, "task/tree")
	squatter := occupy(t, p.pid)
	message := failsCleanly(t, &program{dir: image}, exitConflict, "restore", "--dir", image)
	if !strings.Contains(message, strconv.Itoa(p.pid)) {
		t.Errorf("the message does not name pid %d: %s", p.pid, message)
	}
	if !alive(squatter.Process.Pid) {
		t.Error("the process that had the pid has ended")
	}
	_ = squatter.Process.Kill()
	_ = squatter.Wait()
	p.restore(t, image)
	p.finish(t)
}

// TestRestoreWhileOriginalRunsIsAConflict is the same with the application itself in the way.
func TestRestoreWhileOriginalRunsIsAConflict(t *testing.T) {
	p := start(t, buildC(t, "task/threads"))
	p.waitReady(t)
	image, r := p.checkpoint(t, true)
	if r.code != exitDone {
		t.Fatalf("kup checkpoint: exit code %d\n%s", r.code, r.output)
	}
	before := observe(t, tree(p.pid))
	message := failsCleanly(t, &program{dir: image}, exitConflict, "restore", "--dir", image)
	if !strings.Contains(message, strconv.Itoa(p.pid)) {
		t.Errorf("the message does not name pid %d: %s", p.pid, message)
	}
	sameAs(t, before, tree(p.pid))
	p.finish(t)
}

// occupy starts a process with a certain pid. The kernel takes the next free one above ns_last_pid, so others may be
// faster: try again.
func occupy(t *testing.T, pid int) *exec.Cmd {
	t.Helper()
	for range 50 {
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if cmd.Process.Pid == pid {
			return cmd
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Fatalf("no process got pid %d", pid)
	return nil
}

// TestRestoreWithPortTakenIsAConflict has another listener at the port of a restored one. When that has gone, the server comes back with its connections.
func TestRestoreWithPortTakenIsAConflict(t *testing.T) {
	port := freePort(t)
	p := newProgram(t)
	p.launch(t, memcachedAt(port)...)
	clients := connect(t, memcached{}, port, roundLoad)
	clients[0].conn.Close()
	clients = clients[1:]
	all(t, clients, (*client).fillAll)
	image, r := p.checkpoint(t, false)
	if r.code != exitDone {
		t.Fatalf("kup checkpoint: exit code %d\n%s", r.code, r.output)
	}
	squatter, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer squatter.Close()
	message := failsCleanly(t, p, exitConflict, "restore", "--dir", image)
	if !strings.Contains(message, port) {
		t.Errorf("the message does not name port %s: %s", port, message)
	}
	time.Sleep(50 * time.Millisecond)
	if alive(p.pid) {
		t.Errorf("pid %d is there", p.pid)
	}
	squatter.Close()
	kupDone(t, "restore", "--dir", image)
	all(t, clients, (*client).verifyAll)
}

// TestRestoreWithFileGoneLeavesNothing takes away or changes what the application has open.
func TestRestoreWithFileGoneLeavesNothing(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(t *testing.T, path string)
	}{
		{"removed", remove},
		{"directory in its place", func(t *testing.T, path string) {
			remove(t, path)
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}},
		{"shorter", func(t *testing.T, path string) { truncate(t, path, 2) }},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			p, image := checkpointed(t, "memory/privatefile")
			c.change(t, p.path("mapped"))
			r := kup(t, "restore", "--dir", image)
			if r.code == exitDone {
				t.Errorf("the restore succeeded though a file is %s", c.name)
			}
			if !strings.Contains(r.output, p.path("mapped")) {
				t.Errorf("the message does not name %s: %s", p.path("mapped"), r.output)
			}
			failsCleanly(t, p, r.code, "restore", "--dir", image)
			if _, err := readStat(p.pid); err == nil && !reaped(p.pid) {
				t.Errorf("pid %d is there", p.pid)
			}
		})
	}
}

// filesOf lists the regular files of an image.
func filesOf(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			names = append(names, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// flip changes one byte in the middle of a file's data; in a sparse file the middle may be a hole, which then is none.
func flip(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, info.Size()/2); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x40
	if _, err := f.WriteAt(b, info.Size()/2); err != nil {
		t.Fatal(err)
	}
}

// truncate takes away one part of n of a file's size, or one byte for n = 1.
func truncate(t *testing.T, path string, n int64) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	size := info.Size() - 1
	if n > 1 {
		size = info.Size() / n
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// futureVersion raises the format version in the manifest's first line, "kup image 1 ...".
func futureVersion(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "manifest")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var version int
	if _, err := fmt.Sscanf(string(content), "kup image %d ", &version); err != nil {
		t.Fatalf("first line of the manifest: %v", err)
	}
	changed := strings.Replace(string(content), fmt.Sprintf("kup image %d ", version), fmt.Sprintf("kup image %d ", version+1000), 1)
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func removeAll(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func chown(t *testing.T, path string, uid int) {
	t.Helper()
	if err := os.Chown(path, uid, uid); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}
