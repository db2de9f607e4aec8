// Package load keeps a memcached or redis busy over many connections and knows every item that must be in it.
//
// Each connection owns a part of the keys and works on one request at a time, so that it knows which version of which item
// the server must give back: an item that is lost, old or damaged is noticed with the next get of it. Connections are never
// opened again: one that breaks has failed for good.
package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Load is the clients and what they know.
type Load struct {
	Protocol  Protocol
	Items     int           // keys
	ItemBytes int           // size of a value
	Think     time.Duration // between two requests of a connection, on average
	Sets      int           // percent of the requests of Run; all others get an item

	clients []*client
	stop    chan struct{}
	group   sync.WaitGroup
}

// client is one connection.
type client struct {
	load     *Load
	conn     net.Conn
	in       *bufio.Reader
	random   *rand.Rand
	keys     []int
	versions map[int]uint32

	mu      sync.Mutex
	replies []time.Time // of requests, since Run
	err     error
}

// Connect opens the connections.
func (l *Load) Connect(ctx context.Context, connections int, dial func(ctx context.Context) (net.Conn, error)) error {
	l.stop = make(chan struct{})
	for n := range connections {
		conn, err := dial(ctx)
		if err != nil {
			return fmt.Errorf("connection %d: %w", n+1, err)
		}
		c := &client{load: l, conn: conn, in: bufio.NewReaderSize(conn, 64<<10), random: rand.New(rand.NewPCG(uint64(n), 1)), versions: map[int]uint32{}}
		for key := n; key < l.Items; key += connections {
			c.keys = append(c.keys, key)
		}
		l.clients = append(l.clients, c)
	}
	return nil
}

// Fill sets every item once.
func (l *Load) Fill() error {
	return l.each(func(c *client) error {
		for _, key := range c.keys {
			if err := c.set(key); err != nil {
				return err
			}
		}
		return nil
	})
}

// Check gets every item and compares it. It runs after Stop.
func (l *Load) Check() error {
	return l.each(func(c *client) error {
		for _, key := range c.keys {
			if err := c.get(key); err != nil {
				return err
			}
		}
		return nil
	})
}

// Ask gets one item, over the first connection. Not during Run.
func (l *Load) Ask() error {
	c := l.clients[0]
	return c.get(c.keys[0])
}

// each calls do for all connections at once.
func (l *Load) each(do func(*client) error) error {
	failed := make([]error, len(l.clients))
	var group sync.WaitGroup
	for i, c := range l.clients {
		group.Go(func() {
			if failed[i] = do(c); failed[i] != nil {
				failed[i] = fmt.Errorf("connection %d: %w", i+1, failed[i])
			}
		})
	}
	group.Wait()
	return errors.Join(failed...)
}

// Run lets all connections get and set at random until Stop.
func (l *Load) Run() {
	for _, c := range l.clients {
		l.group.Go(c.run)
	}
}

// Stop lets all connections finish the request that they are at. The error is that of connections that broke, or got wrong answers.
func (l *Load) Stop() error {
	close(l.stop)
	l.group.Wait()
	var failed []error
	for i, c := range l.clients {
		if c.err != nil {
			failed = append(failed, fmt.Errorf("connection %d: %w", i+1, c.err))
		}
	}
	return errors.Join(failed...)
}

// Close closes the connections.
func (l *Load) Close() {
	for _, c := range l.clients {
		c.conn.Close()
	}
}

func (c *client) run() {
	for {
		select {
		case <-c.load.stop:
			return
		default:
		}
		key := c.keys[c.random.IntN(len(c.keys))]
		do := c.get
		if c.random.IntN(100) < c.load.Sets {
			do = c.set
		}
		err := do(key)
		c.mu.Lock()
		c.err = err
		c.replies = append(c.replies, time.Now())
		c.mu.Unlock()
		if err != nil {
			return
		}
		time.Sleep(time.Duration(float64(c.load.Think) * (0.5 + c.random.Float64())))
	}
}

// replyTimeout is far beyond what an update takes.
const replyTimeout = 5 * time.Minute

func (c *client) set(key int) error {
	version := c.versions[key] + 1
	request, answer := c.load.Protocol.Set(key, c.load.value(key, version))
	if err := c.ask(request, answer); err != nil {
		return fmt.Errorf("set of item %d: %w", key, err)
	}
	c.versions[key] = version
	return nil
}

func (c *client) get(key int) error {
	request, answer := c.load.Protocol.Get(key, c.load.value(key, c.versions[key]))
	if err := c.ask(request, answer); err != nil {
		return fmt.Errorf("get of item %d, version %d: %w", key, c.versions[key], err)
	}
	return nil
}

// ask makes a request that has only one right answer.
func (c *client) ask(request, answer []byte) error {
	if err := c.conn.SetDeadline(time.Now().Add(replyTimeout)); err != nil {
		return err
	}
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	// A wrong answer may be shorter, but none is shorter than this.
	got := make([]byte, shortestAnswer, len(answer))
	if _, err := io.ReadFull(c.in, got); err != nil {
		return err
	}
	if bytes.HasPrefix(answer, got) {
		got = got[:len(answer)]
		if _, err := io.ReadFull(c.in, got[shortestAnswer:]); err != nil {
			return err
		}
	}
	if !bytes.Equal(got, answer) {
		return fmt.Errorf("the server said %.60q instead of %.60q", got, answer)
	}
	return nil
}

// value is an item's random content.
func (l *Load) value(key int, version uint32) []byte {
	random := rand.NewPCG(uint64(key), uint64(version))
	value := make([]byte, 0, l.ItemBytes+8)
	for len(value) < l.ItemBytes {
		value = binary.LittleEndian.AppendUint64(value, random.Uint64())
	}
	return value[:l.ItemBytes]
}
