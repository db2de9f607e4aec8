package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/vm/wire"
)

// run starts a command in a session of its own and follows it.
func (a *agent) run(m wire.Message) {
	if err := a.startCommand(m); err != nil {
		a.done(m.ID, wire.Message{}, err)
	}
}

func (a *agent) startCommand(m wire.Message) error {
	if len(m.Args) == 0 {
		return errors.New("no command given")
	}
	input, err := inputFile(m.Data)
	if err != nil {
		return err
	}
	defer input.Close()
	var read, write [2]*os.File
	for i := range read {
		if read[i], write[i], err = os.Pipe(); err != nil {
			return err
		}
		defer write[i].Close()
	}
	// The lock keeps a Kill from missing a command that is just being started.
	a.mu.Lock()
	defer a.mu.Unlock()
	pid, exited, err := a.kids.start(m.Args, &os.ProcAttr{
		Env: append(os.Environ(), m.Env...), Dir: "/", Files: []*os.File{input, write[0], write[1]}, Sys: kernel.NewSession(),
	})
	if err != nil {
		return err
	}
	a.running[m.ID] = pid
	go a.follow(m.ID, read, exited)
	return nil
}

// inputFile is a command's standard input: a file rather than a pipe, so that nothing has to feed it.
func inputFile(data []byte) (*os.File, error) {
	if len(data) == 0 {
		return os.Open(os.DevNull)
	}
	f, err := os.CreateTemp("/run", "stdin")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(data); err != nil {
		f.Close()
		return nil, err
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

// follow passes a command's output on and reports its end.
func (a *agent) follow(id uint64, read [2]*os.File, exited <-chan kernel.WaitStatus) {
	var lengths [2]chan int64
	for i, r := range read {
		lengths[i] = make(chan int64, 1)
		go func() { lengths[i] <- a.pump(id, i+1, r) }()
	}
	status := <-exited
	a.mu.Lock()
	delete(a.running, id)
	a.mu.Unlock()
	for _, r := range read {
		// Wakes pump, which then takes what is left without waiting for more. An error says that pump has closed it.
		_ = r.SetReadDeadline(time.Now())
	}
	m := wire.Message{ExitCode: exitCode(status)}
	for i := range lengths {
		m.Lengths[i] = <-lengths[i]
	}
	a.done(id, m, nil)
}

// pump sends what a command writes, until its output ends or, once the command has, until the pipe is empty: a daemon
// that it left behind may hold the pipe for ever. Such a daemon's output is thrown away from then on; a closed pipe would
// kill it.
func (a *agent) pump(id uint64, stream int, r *os.File) (sent int64) {
	buf := make([]byte, wire.ChunkSize)
	const pipeSize = 64 << 10 // pipe(7): what the command can have left behind
	left, ended := pipeSize, false
	for left > 0 {
		n, err := r.Read(buf)
		if n > 0 {
			a.write(wire.Message{Type: wire.Output, ID: id, Stream: stream, Data: buf[:n]})
			sent += int64(n)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && !ended {
			ended, err = true, nil
		}
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				r.Close()
				return sent
			}
			break
		}
		if ended {
			left -= n
			if r.SetReadDeadline(time.Now().Add(50*time.Millisecond)) != nil {
				break
			}
		}
	}
	go func() {
		defer r.Close()
		if r.SetReadDeadline(time.Time{}) == nil {
			_, _ = io.Copy(io.Discard, r)
		}
	}()
	return sent
}

func writeFile(m wire.Message) error {
	if err := os.MkdirAll(filepath.Dir(m.Path), 0o755); err != nil {
		return err
	}
	flags := os.O_WRONLY | os.O_CREATE
	if m.Offset == 0 {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(m.Path, flags, os.FileMode(m.Mode))
	if err != nil {
		return err
	}
	_, err = f.WriteAt(m.Data, m.Offset)
	err = errors.Join(err, f.Chmod(os.FileMode(m.Mode)), f.Close())
	if err == nil && m.Seconds != 0 {
		when := time.Unix(m.Seconds, 0)
		err = os.Chtimes(m.Path, when, when)
	}
	return err
}

// readFile gives the piece of a file that starts at the offset; one shorter than ChunkSize is the last.
func readFile(m wire.Message) ([]byte, error) {
	f, err := os.Open(m.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(m.Offset, io.SeekStart); err != nil {
		return nil, err
	}
	buf := make([]byte, wire.ChunkSize)
	n, err := io.ReadFull(f, buf) // /proc files say nothing about their size and give a page at a time
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return buf[:n], err
}

// powerOff ends all processes, unmounts the disk and switches the machine off.
func powerOff() {
	_ = kernel.Kill(-1, kernel.KillSignal) // ESRCH: there was none
	var err error
	for range 100 {
		if err = kernel.Unmount("/data"); err == nil || errors.Is(err, kernel.ErrNotMounted) {
			break
		}
		time.Sleep(20 * time.Millisecond) // the processes are still ending
	}
	if err != nil {
		mark(fmt.Sprintf("disk not unmounted: %v", err))
	}
	kernel.Sync()
	if err := kernel.PowerOff(); err != nil {
		mark(fmt.Sprintf("trouble: power off: %v", err))
	}
}
