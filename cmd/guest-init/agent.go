package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/vm/wire"
)

// agentLine is the only port of the machine's only virtio serial device; port 0 is kept for a console.
const agentLine = "/dev/vport0p1"

// agent answers the host's requests, see package wire.
type agent struct {
	kids *children
	line *os.File
	send sync.Mutex // one message at a time on the line

	mu       sync.Mutex
	hello    wire.Message    // what the host is to know now
	welcomed bool            // it knows
	seen     map[uint64]bool // requests that arrived; repeated ones are not carried out again
	running  map[uint64]int  // Run request -> pid
}

func startAgent(kids *children) (*agent, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, err
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return nil, err
	}
	if err := waitForFile(agentLine, 20*time.Second); err != nil {
		return nil, err
	}
	line, err := kernel.OpenBlocking(agentLine)
	if err != nil {
		return nil, err
	}
	a := &agent{
		kids: kids, line: line, seen: map[uint64]bool{}, running: map[uint64]int{},
		hello: wire.Message{
			Type: wire.Hello, Boot: strings.TrimSpace(string(boot)), Release: strings.TrimSpace(string(release)),
			Uptime: uptime(),
		},
	}
	go a.sayHello()
	go a.listen()
	return a, nil
}

// listen takes requests for ever.
func (a *agent) listen() {
	for {
		// The port reads as ended until its device has heard that the host is there.
		if err := wire.Receive(a.line, a.handle); err != io.EOF {
			mark(fmt.Sprintf("trouble: agent stopped: %v", err))
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// ready tells the host that start-up is over, and what went wrong in it.
func (a *agent) ready(trouble error) {
	a.mu.Lock()
	a.hello.Ready, a.hello.Uptime, a.welcomed = true, uptime(), false
	if trouble != nil {
		a.hello.Note = trouble.Error()
	}
	hello := a.hello
	a.mu.Unlock()
	a.write(hello)
}

// sayHello repeats the hello until the host has welcomed it.
func (a *agent) sayHello() {
	for ; ; time.Sleep(200 * time.Millisecond) {
		a.mu.Lock()
		hello, welcomed := a.hello, a.welcomed
		a.mu.Unlock()
		if welcomed && hello.Ready {
			return
		}
		if !welcomed {
			a.write(hello)
		}
	}
}

func (a *agent) write(m wire.Message) {
	a.send.Lock()
	defer a.send.Unlock()
	m.Boot = a.hello.Boot
	if err := wire.Encode(a.line, m); err != nil {
		mark(fmt.Sprintf("trouble: agent cannot write: %v", err))
	}
}

// handle carries out one request. Only what ends at once runs here; the next request waits for it.
func (a *agent) handle(m wire.Message) {
	if m.Boot != a.hello.Boot {
		return // meant for a kernel that is gone
	}
	if m.Type == wire.Welcome {
		a.mu.Lock()
		a.welcomed = a.welcomed || m.Ready == a.hello.Ready
		a.mu.Unlock()
		return
	}
	if a.seen[m.ID] { // only this goroutine uses seen
		a.write(wire.Message{Type: wire.Accepted, ID: m.ID})
		return
	}
	a.seen[m.ID] = true
	a.write(wire.Message{Type: wire.Accepted, ID: m.ID})
	switch m.Type {
	case wire.Run:
		a.run(m)
	case wire.Kill:
		a.done(m.ID, wire.Message{}, a.kill(m.Target))
	case wire.Write:
		a.done(m.ID, wire.Message{}, writeFile(m))
	case wire.Read:
		data, err := readFile(m)
		a.done(m.ID, wire.Message{Data: data}, err)
	case wire.PowerOff:
		a.done(m.ID, wire.Message{}, nil)
		powerOff()
	default:
		a.done(m.ID, wire.Message{}, fmt.Errorf("the guest's agent does not know the request %q", m.Type))
	}
}

// done answers a request.
func (a *agent) done(id uint64, m wire.Message, err error) {
	m.Type, m.ID = wire.Done, id
	if err != nil {
		m.Error = err.Error()
	}
	a.write(m)
}

func (a *agent) kill(run uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	pid, ok := a.running[run]
	if !ok {
		return nil // it has ended meanwhile
	}
	return kernel.Kill(-pid, kernel.KillSignal)
}
