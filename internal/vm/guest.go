package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/kup-project/kup/internal/vm/wire"
)

// Guest is a running guest. Its methods may be used by several goroutines at once.
type Guest struct {
	process *process
	channel *channel
	console *console
	retried error
}

// Retried says why a first attempt at the first boot failed; nil if there was one attempt only.
func (g *Guest) Retried() error { return g.retried }

// Start boots a guest and waits until its start-up is over. Whoever starts a guest closes it; should this process end
// without doing so, the guest ends too.
//
// Emulation is known to break now and then in a first boot: QEMU crashes, or the kernel panics before its init runs, see
// Config.ThreadPerCPU. Then a second boot is tried; the console's log has both.
func Start(ctx context.Context, c Config) (*Guest, error) {
	g, err := start(ctx, c)
	if err != nil && g != nil && errors.Is(err, ErrEnded) && (g.process.crashed() || len(g.Boots()) == 0) {
		first := err
		if g, err = start(ctx, c); err == nil {
			g.retried = first
		}
	}
	if err != nil {
		return nil, err
	}
	return g, nil
}

// start gives the guest, closed, along with an error when it got as far as running.
func start(ctx context.Context, c Config) (*Guest, error) {
	con, err := newConsole(c.Log)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	p, conn, err := launch(ctx, c, con)
	if err != nil {
		con.file.Close()
		return nil, err
	}
	g := &Guest{process: p, channel: newChannel(conn), console: con}
	if _, err := g.WaitBoot(ctx, 1); err != nil {
		g.Close()
		return g, err
	}
	return g, nil
}

// Pid is QEMU's process on the host.
func (g *Guest) Pid() int { return g.process.cmd.Process.Pid }

// WaitBoot waits until the start-up of the guest's n-th kernel, the first being 1, is over: the disk is mounted, the
// network is up, and `kup boot` has run; or that of a later one, if the n-th has changed the kernel instead. What failed in it is in Boot.Trouble.
func (g *Guest) WaitBoot(ctx context.Context, n int) (Boot, error) {
	boots, err := g.channel.await(ctx, func(b []Boot) bool { return len(b) >= n && !b[len(b)-1].Ready.IsZero() })
	if err != nil {
		return Boot{}, g.explain(fmt.Sprintf("boot %d", n), err)
	}
	return boots[len(boots)-1], nil
}

// Boots are the kernels that the guest has run so far, the last of them being the running one.
func (g *Guest) Boots() []Boot {
	g.channel.mu.Lock()
	defer g.channel.mu.Unlock()
	return append([]Boot(nil), g.channel.boots...)
}

// Marks are the steps that all boots so far have reported on the console.
func (g *Guest) Marks() []Mark { return g.console.allMarks() }

// explain adds to an error what is known about a guest that ended or hangs.
func (g *Guest) explain(doing string, err error) error {
	state := "QEMU is running"
	if errors.Is(err, ErrEnded) {
		<-g.process.exited // the line ends a moment before the process does
		<-g.console.done
		state = "QEMU ended with " + g.process.describe()
	} else if !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("guest: %s: %w", doing, err)
	}
	return fmt.Errorf("guest: %s: %w; %s; the console's last lines:\n%s", doing, err, state, g.console.lastLines())
}

// Command is what RunCommand runs in the guest.
type Command struct {
	Args  []string // looked up in PATH
	Env   []string // NAME=value, besides PATH and HOME
	Stdin []byte
	// Stdout and Stderr get the output as it comes, also what came before the kernel was changed. They must not block. Nil:
	// it is collected in Result.
	Stdout, Stderr io.Writer
}

// Result is how a command in the guest ended.
type Result struct {
	Stdout, Stderr string
	ExitCode       int // 128+N for a command that signal N killed
}

// Run runs a command in the guest, in a session of its own, and waits for its end. An exit code other than 0 is no error. A
// daemon that the command leaves behind should have its output redirected: its pipe to the agent is read, but thrown away.
//
// When the guest's kernel changes meanwhile the error matches ErrRebooted, and the result holds the output so far. When
// ctx ends, so does the command.
func (g *Guest) Run(ctx context.Context, args ...string) (Result, error) {
	return g.RunCommand(ctx, Command{Args: args})
}

// Output is Run for commands that must succeed: it gives the standard output, and an exit code other than 0 is an error
// that shows the standard error.
func (g *Guest) Output(ctx context.Context, args ...string) (string, error) {
	r, err := g.Run(ctx, args...)
	if err == nil && r.ExitCode != 0 {
		err = fmt.Errorf("guest: %s: exit code %d: %s", strings.Join(args, " "), r.ExitCode, strings.TrimSpace(r.Stderr+r.Stdout))
	}
	return r.Stdout, err
}

// RunCommand is Run with input, environment and streamed output.
func (g *Guest) RunCommand(ctx context.Context, c Command) (Result, error) {
	var collected [2]strings.Builder
	var received [2]int64
	var writeError error
	writers := [2]io.Writer{c.Stdout, c.Stderr}
	for i := range writers {
		if writers[i] == nil {
			writers[i] = &collected[i]
		}
	}
	output := func(m wire.Message) {
		i := m.Stream - wire.Stdout
		if i < 0 || i >= len(writers) {
			return
		}
		received[i] += int64(len(m.Data))
		if _, err := writers[i].Write(m.Data); err != nil && writeError == nil {
			writeError = err
		}
	}
	done, err := g.channel.request(ctx, wire.Message{Type: wire.Run, Args: c.Args, Env: c.Env, Data: c.Stdin}, output)
	g.channel.mu.Lock() // after a context's end, output may still be on its way
	result := Result{Stdout: collected[0].String(), Stderr: collected[1].String(), ExitCode: done.ExitCode}
	g.channel.mu.Unlock()
	doing := strings.Join(c.Args, " ")
	switch {
	case err != nil:
		return result, g.explain(doing, err)
	case writeError != nil:
		return result, fmt.Errorf("guest: %s: passing its output on: %w", doing, writeError)
	case done.Lengths != received:
		return result, fmt.Errorf("guest: %s: output was lost on the line: got %d bytes of %d", doing, received, done.Lengths)
	}
	return result, nil
}

// Push copies a file into the guest, with its permissions and modification time in whole seconds. The line carries
// about 1 MB per second: large files belong into the initramfs or onto the disk.
func (g *Guest) Push(ctx context.Context, hostPath, guestPath string) error {
	info, err := os.Stat(hostPath)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(hostPath)
	if err != nil {
		return err
	}
	m := wire.Message{Type: wire.Write, Path: guestPath, Mode: uint32(info.Mode().Perm()), Seconds: info.ModTime().Unix()}
	for first := true; first || len(content) > 0; first = false {
		m.Data = content[:min(len(content), wire.ChunkSize)]
		content = content[len(m.Data):]
		if _, err := g.channel.request(ctx, m, nil); err != nil {
			return g.explain("write "+guestPath, err)
		}
		m.Offset += int64(len(m.Data))
	}
	return nil
}

// ReadFile gives the content of a file in the guest.
func (g *Guest) ReadFile(ctx context.Context, guestPath string) ([]byte, error) {
	var content []byte
	for {
		m, err := g.channel.request(ctx, wire.Message{Type: wire.Read, Path: guestPath, Offset: int64(len(content))}, nil)
		if err != nil {
			return nil, g.explain("read "+guestPath, err)
		}
		content = append(content, m.Data...)
		if len(m.Data) < wire.ChunkSize {
			return content, nil
		}
	}
}

// Shutdown ends the guest's processes, unmounts its disk, powers it off and waits until it is gone.
func (g *Guest) Shutdown(ctx context.Context) error {
	// The guest may be gone before its answer has arrived.
	if _, err := g.channel.request(ctx, wire.Message{Type: wire.PowerOff}, nil); err != nil && !errors.Is(err, ErrEnded) {
		return g.explain("power off", err)
	}
	select {
	case <-g.process.exited:
		g.Close()
		return nil
	case <-ctx.Done():
		return g.explain("power off", ctx.Err())
	}
}

// Close ends the guest at once, as pulling the plug does, and waits until its process is gone. It may be called again.
func (g *Guest) Close() {
	g.process.kill()
	g.channel.conn.Close()
	<-g.console.done
}
