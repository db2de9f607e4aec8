package main

import (
	"os"
	"os/exec"
	"os/signal"
	"sync"

	"github.com/kup-project/kup/internal/kernel"
)

// children takes the exit status of every process that pid 1 has to wait for: its own children, whose status somebody
// wants, and orphans, whose status nobody does.
type children struct {
	// Held while a process is started, so that it is known before its status can be taken, and so that the os package's
	// own trial children are not reaped under its hands.
	mu   sync.Mutex
	mine map[int]chan kernel.WaitStatus
}

func newChildren() *children {
	c := &children{mine: map[int]chan kernel.WaitStatus{}}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, kernel.ChildSignal)
	go func() {
		for range ended {
			c.reap()
		}
	}()
	return c
}

func (c *children) reap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		pid, status, err := kernel.ReapChild()
		if err != nil || pid == 0 {
			return
		}
		if exited, ok := c.mine[pid]; ok {
			exited <- status
			delete(c.mine, pid)
		}
	}
}

// start starts a program, looked up in PATH; exited gives its status once.
func (c *children) start(args []string, attr *os.ProcAttr) (pid int, exited <-chan kernel.WaitStatus, err error) {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return 0, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := os.StartProcess(path, args, attr)
	if err != nil {
		return 0, nil, err
	}
	status := make(chan kernel.WaitStatus, 1)
	c.mine[p.Pid] = status
	pid = p.Pid
	return pid, status, p.Release()
}

// exitCode is a shell's: 128+N for a process that signal N ended.
func exitCode(status kernel.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
