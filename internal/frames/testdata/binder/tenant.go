package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/kup-project/kup/internal/kernel"
)

// tenant is the program that the frames are for.
type tenant struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	pidfd  int
	at     uint64 // its memory
	shared uint64 // pages that cannot be replaced
	file   uint64
	full   uint64
}

const group = "/sys/fs/cgroup/tenant"

// start starts the tenant in a memory cgroup of its own.
func (t *taker) start() error {
	if err := errors.Join(writeWords("/data/frames", t.pages), writeWords("/data/spare", t.spare)); err != nil {
		return err
	}
	if err := os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+memory"), 0); err != nil {
		return err
	}
	if err := os.Mkdir(group, 0o755); err != nil {
		return err
	}
	n := &tenant{cmd: exec.Command("sh", "-c", "echo $$ >"+group+"/cgroup.procs; exec tenant /data/frames /data/spare")}
	n.cmd.Stderr = os.Stderr
	var err error
	if n.in, err = n.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := n.cmd.Start(); err != nil {
		return err
	}
	n.out = bufio.NewReader(out)
	line, err := n.out.ReadString('\n')
	if err != nil {
		return err
	}
	var pages int
	if _, err := fmt.Sscanf(line, "at %d %d %d %d %d", &n.at, &pages, &n.shared, &n.file, &n.full); err != nil || pages != len(t.pages) {
		return fmt.Errorf("the tenant says %q: %v", line, err)
	}
	n.pidfd, err = kernel.PidfdOpen(n.cmd.Process.Pid)
	t.tenant = n
	return err
}

// ask makes the tenant do something.
func (n *tenant) ask(what string) error {
	if _, err := fmt.Fprintln(n.in, what); err != nil {
		return err
	}
	for {
		line, err := n.out.ReadString('\n')
		if err != nil {
			return err
		}
		if line == "ok\n" {
			return nil
		}
		fmt.Print("the tenant says: ", line)
		if !strings.HasPrefix(line, "note: ") {
			return errors.New(strings.TrimSpace(line))
		}
	}
}

func writeWords(path string, words []uint64) error {
	text, err := binary.Append(nil, binary.LittleEndian, words)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

func (t *taker) end() error {
	if _, err := fmt.Fprintln(t.tenant.in, "end"); err != nil {
		return err
	}
	if err := t.tenant.cmd.Wait(); err != nil {
		return err
	}
	if err := expect("a process that has ended", t.bindOne(t.tenant.at, t.spare[0]), kernel.ESRCH); err != nil {
		return err
	}
	// What was charged is given back, but for pages that the machine still has in its batches.
	var charged uint64
	for range 50 {
		text, err := os.ReadFile(group + "/memory.current")
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := fmt.Sscan(string(text), &charged); err != nil {
			return err
		}
		if charged < 1<<20 {
			fmt.Printf("%d kB are still charged\n", charged>>10)
			return os.Remove(group)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("%d bytes are still charged", charged)
}
