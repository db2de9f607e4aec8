package vm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/kup-project/kup/internal/vm/wire"
)

// What can end a request, besides its context.
var (
	// ErrRebooted: the guest's kernel changed while, or before, the request was carried out.
	ErrRebooted = errors.New("the guest's kernel changed")
	// ErrEnded: QEMU is gone.
	ErrEnded = errors.New("the guest has ended")
)

// Boot is one kernel's life in a guest.
type Boot struct {
	Number  int       // 1 for the first
	ID      string    // the kernel's boot_id, random(4)
	Release string    // uname -r
	Init    time.Time // when, on the host's clock, its agent was first heard
	Ready   time.Time // when its start-up, kup boot included, was over; zero before
	// InitUptime and ReadyUptime are the same moments in seconds since the kernel's own start.
	InitUptime, ReadyUptime float64
	// Trouble is what failed in start-up; the guest runs nevertheless.
	Trouble string
}

// resendAfter is how long the host waits for a request's arrival before it repeats it. Guests are slow.
const resendAfter = 2 * time.Second

// channel is the host's end of the line to a guest's agent.
type channel struct {
	conn net.Conn
	send sync.Mutex // one message at a time on the line

	mu      sync.Mutex
	boots   []Boot
	calls   map[uint64]*call
	lastID  uint64
	ended   error
	changed chan struct{} // closed, and replaced, when boots or ended change
}

// call is a request under way.
type call struct {
	boot     string
	output   func(wire.Message) // for each piece of output, in order
	accepted chan struct{}      // gets one element when the request has arrived
	answer   chan answer        // gets one element
}

type answer struct {
	message wire.Message
	err     error
}

func newChannel(conn net.Conn) *channel {
	c := &channel{conn: conn, calls: map[uint64]*call{}, changed: make(chan struct{})}
	go func() { c.end(wire.Receive(conn, c.handle)) }()
	return c
}

// end fails all requests, present and future.
func (c *channel) end(err error) {
	c.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = fmt.Errorf("%w: %w", ErrEnded, err)
	for id := range c.calls {
		c.finish(id, answer{err: c.ended})
	}
	c.announce()
}

// announce wakes those who wait for a change. The caller holds mu.
func (c *channel) announce() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// finish answers a call. The caller holds mu.
func (c *channel) finish(id uint64, a answer) {
	if call, ok := c.calls[id]; ok {
		call.answer <- a
		delete(c.calls, id)
	}
}

func (c *channel) handle(m wire.Message) {
	if m.Type == wire.Hello {
		c.hello(m)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	call, ok := c.calls[m.ID]
	if !ok || call.boot != m.Boot {
		return // an answer that nobody waits for any more
	}
	switch m.Type {
	case wire.Accepted:
		select {
		case call.accepted <- struct{}{}:
		default: // it was repeated
		}
	case wire.Output:
		call.output(m)
	case wire.Done:
		var err error
		if m.Error != "" {
			err = errors.New(m.Error)
		}
		c.finish(m.ID, answer{m, err})
	}
}

// hello notes a kernel, or that its start-up is over.
func (c *channel) hello(m wire.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.boots)
	if n == 0 || c.boots[n-1].ID != m.Boot {
		for id := range c.calls {
			c.finish(id, answer{err: ErrRebooted})
		}
		n++
		c.boots = append(c.boots, Boot{Number: n, ID: m.Boot, Release: m.Release, Init: time.Now(), InitUptime: m.Uptime})
	}
	if b := &c.boots[n-1]; m.Ready && b.Ready.IsZero() {
		b.Ready, b.ReadyUptime, b.Trouble = time.Now(), m.Uptime, m.Note
	}
	c.announce()
	// Not from here: the line may be full, and whoever reads it must not wait. When this fails the agent repeats its hello.
	go func() { _ = c.write(wire.Message{Type: wire.Welcome, Boot: m.Boot, Ready: m.Ready}) }()
}

func (c *channel) write(m wire.Message) error {
	c.send.Lock()
	defer c.send.Unlock()
	// A guest between two kernels reads nothing. What is cut off here damages one message, which will be repeated.
	if err := c.conn.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	return wire.Encode(c.conn, m)
}

// await waits until ok accepts the boots so far.
func (c *channel) await(ctx context.Context, ok func([]Boot) bool) ([]Boot, error) {
	for {
		c.mu.Lock()
		boots, ended, changed := slices.Clone(c.boots), c.ended, c.changed
		fine := ok(boots)
		c.mu.Unlock()
		if fine {
			return boots, nil
		}
		if ended != nil {
			return boots, ended
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return boots, ctx.Err()
		}
	}
}

// request sends a request to the running kernel's agent, waiting for one if there is none yet, and waits for the answer.
func (c *channel) request(ctx context.Context, m wire.Message, output func(wire.Message)) (wire.Message, error) {
	if _, err := c.await(ctx, func(b []Boot) bool { return len(b) > 0 }); err != nil {
		return wire.Message{}, fmt.Errorf("the guest's agent does not answer: %w", err)
	}
	call := &call{output: output, accepted: make(chan struct{}, 1), answer: make(chan answer, 1)}
	c.mu.Lock()
	if c.ended != nil {
		defer c.mu.Unlock()
		return wire.Message{}, c.ended
	}
	c.lastID++
	m.ID, m.Boot = c.lastID, c.boots[len(c.boots)-1].ID
	call.boot = m.Boot
	c.calls[m.ID] = call
	c.mu.Unlock()

	// A failed write needs no attention: the request is repeated, and the line's end fails the call.
	_ = c.write(m)
	repeat := time.NewTicker(resendAfter)
	defer repeat.Stop()
	for {
		select {
		case <-call.accepted:
			repeat.Stop()
		case <-repeat.C:
			_ = c.write(m)
		case a := <-call.answer:
			return a.message, a.err
		case <-ctx.Done():
			c.mu.Lock()
			delete(c.calls, m.ID)
			c.mu.Unlock()
			if m.Type == wire.Run {
				c.abandon(m)
			}
			return wire.Message{}, ctx.Err()
		}
	}
}

// abandon ends a command that nobody waits for any more.
func (c *channel) abandon(run wire.Message) {
	c.mu.Lock()
	c.lastID++
	id := c.lastID
	c.mu.Unlock()
	go func() { _ = c.write(wire.Message{Type: wire.Kill, Boot: run.Boot, ID: id, Target: run.ID}) }()
}
