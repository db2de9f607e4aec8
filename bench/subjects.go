package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/kup-project/kup/internal/demo/load"
	"github.com/kup-project/kup/internal/kernel"
)

// subject is an application to be measured.
type subject struct {
	name  string
	start func(ctx context.Context, b *bench) (*application, error)
}

// application is a running subject.
type application struct {
	pid    int
	answer func() error // waits until it has done something that was asked of it from now on
	check  func() error // looks whether anything was lost; may be nil
	close  func()
}

func subjects() []subject {
	return []subject{
		shape("idle", "idle", 0),
		shape("1000 threads", "threads", 1000),
		shape("200 processes", "processes", 200),
		shape("5000 mappings", "mappings", 5000),
		{"1000 connections", withConnections},
		shape("memory 1 GB", "memory", 1<<10),
		memcached(1), memcached(2), memcached(4),
		redis(1),
	}
}

// shape is a process of subject/subject.c.
func shape(name, mode string, count int) subject {
	return subject{name, func(ctx context.Context, b *bench) (*application, error) { return b.startShape(ctx, mode, count, 0) }}
}

func (b *bench) startShape(ctx context.Context, mode string, count int, port uint64) (*application, error) {
	path := filepath.Join(b.dir, "beat")
	page := make([]byte, kernel.PageSize)
	binary.LittleEndian.PutUint64(page[8:], port)
	if err := os.WriteFile(path, page, 0o600); err != nil {
		return nil, err
	}
	beat := func() (uint64, error) {
		content, err := os.ReadFile(path)
		if err != nil {
			return 0, err
		}
		return binary.LittleEndian.Uint64(content), nil
	}
	answer := func() error {
		first, err := beat()
		for deadline := time.Now().Add(patience); err == nil; time.Sleep(100 * time.Microsecond) {
			var now uint64
			if now, err = beat(); err == nil && now != first {
				return nil
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("no sign of life within %v", patience)
			}
		}
		return err
	}
	cmd, err := b.launch(ctx, filepath.Join(b.dir, "subject"), mode, strconv.Itoa(count), path)
	if err != nil {
		return nil, err
	}
	return &application{pid: cmd.Process.Pid, answer: answer, close: func() {}}, nil
}

// withConnections is a process with many TCP connections, whose other ends are ours.
func withConnections(ctx context.Context, b *bench) (*application, error) {
	const count = 1000
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	a, err := b.startShape(ctx, "connections", count, uint64(listener.Addr().(*net.TCPAddr).Port))
	if err != nil {
		return nil, err
	}
	var conns []net.Conn
	a.close = func() {
		for _, c := range conns {
			c.Close()
		}
	}
	for range count {
		if err := listener.(*net.TCPListener).SetDeadline(time.Now().Add(patience)); err != nil {
			return a, err
		}
		c, err := listener.Accept()
		if err != nil {
			return a, err
		}
		conns = append(conns, c)
	}
	a.answer = func() error { return ping(conns[0]) }
	a.check = func() error {
		for i, c := range conns {
			if err := ping(c); err != nil {
				return fmt.Errorf("connection %d: %w", i, err)
			}
		}
		return nil
	}
	return a, nil
}

// ping sends a byte and waits for it to come back.
func ping(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.Write([]byte{'x'}); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

func memcached(gigabytes int) subject {
	return server(fmt.Sprintf("memcached %d GB", gigabytes), load.Memcached, gigabytes, memcachedCommand(gigabytes))
}

// memcachedCommand starts a memcached with room for so much and its own overhead.
func memcachedCommand(gigabytes int) func(port string) []string {
	return func(port string) []string {
		return []string{"memcached", "-u", "root", "-l", "127.0.0.1", "-p", port, "-U", "0", "-t", "4", "-m", strconv.Itoa(gigabytes * 1400)}
	}
}

func redis(gigabytes int) subject {
	return server(fmt.Sprintf("redis %d GB", gigabytes), load.Redis, gigabytes, func(port string) []string {
		return []string{"redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"}
	})
}

// server is a real server full of random items.
func server(name string, protocol load.Protocol, gigabytes int, command func(port string) []string) subject {
	return subject{name, func(ctx context.Context, b *bench) (*application, error) {
		const item, clients = 16 << 10, 10
		l := &load.Load{Protocol: protocol, Items: gigabytes << 30 / item, ItemBytes: item}
		return b.startServer(ctx, command, l, clients)
	}}
}

// startServer starts a server on a free port, connects its clients and fills it.
func (b *bench) startServer(ctx context.Context, command func(port string) []string, l *load.Load, clients int) (*application, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	cmd, err := b.launch(ctx, command(port)...)
	if err != nil {
		return nil, err
	}
	a := &application{pid: cmd.Process.Pid, answer: l.Ask, check: l.Check, close: l.Close}
	if err := l.Connect(ctx, clients, dialer("127.0.0.1:"+port)); err != nil {
		return a, err
	}
	return a, l.Fill()
}

// dialer connects to a server that may just be starting.
func dialer(address string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if err == nil || time.Now().After(deadline) {
				return c, err
			}
		}
	}
}

func freePort() (string, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), nil
}

// launch starts a program in a session of its own, as a service runs.
func (b *bench) launch(ctx context.Context, command ...string) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.SysProcAttr = kernel.NewSession()
	cmd.Dir = b.dir
	return cmd, cmd.Start()
}
