package test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// load is what a server has to do: random values, in keys that each belong to one connection.
type load struct {
	connections, keys int // keys per connection
}

const loadValueSize = 4096

var (
	fullLoad  = load{40, 640} // 100 MB
	roundLoad = load{16, 500} // 32 MB
)

// protocol is how a client speaks to one kind of server.
type protocol interface {
	set(w *bufio.Writer, key string, value []byte)
	setDone(r *bufio.Reader) error
	get(w *bufio.Writer, key string)
	value(r *bufio.Reader) ([]byte, error)
}

func TestMemcachedUnderLoad(t *testing.T) {
	port := freePort(t)
	underLoad(t, memcached{}, port, memcachedAt(port)...)
}

func TestRedisUnderLoad(t *testing.T) {
	port := freePort(t)
	underLoad(t, redis{}, port, redisAt(port)...)
}

// memcachedAt and redisAt are the commands of servers that keep what a full load writes.
func memcachedAt(port string) []string {
	return []string{"memcached", "-u", "root", "-l", "127.0.0.1", "-p", port, "-m", "512", "-t", "4", "-U", "0"}
}

func redisAt(port string) []string {
	return []string{"redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"}
}

// underLoad checkpoints a server that its clients keep busy: first it runs on, then it is ended and restored. No connection
// may break, and no value may be wrong.
func underLoad(t *testing.T, speak protocol, port string, command ...string) {
	if _, err := exec.LookPath(command[0]); err != nil {
		t.Fatal(err)
	}
	tables := nftTables(t)
	p := newProgram(t)
	p.launch(t, command...)
	clients := connect(t, speak, port, fullLoad)
	all(t, clients, (*client).fillAll)

	stop := keepBusy(t, clients)
	time.Sleep(300 * time.Millisecond)

	before := operations(clients)
	if _, r := p.checkpoint(t, true); r.code != exitDone {
		t.Fatalf("kup checkpoint: exit code %d\n%s", r.code, r.output)
	}
	goOn(t, clients, before)
	ended := time.Now()
	image, r := p.checkpoint(t, false)
	if r.code != exitDone {
		t.Fatalf("kup checkpoint: exit code %d\n%s", r.code, r.output)
	}
	// While the server is away nobody may answer its clients with a reset.
	time.Sleep(500 * time.Millisecond)
	before = operations(clients)
	kupDone(t, "restore", "--dir", image)
	t.Logf("the server was away for at most %v", time.Since(ended).Round(time.Millisecond))
	goOn(t, clients, before)

	stop()
	all(t, clients, (*client).verifyAll)
	for _, c := range connect(t, speak, port, fullLoad)[:1] {
		c.versions = clients[0].versions
		c.verifyAll()
		if c.err != nil {
			t.Errorf("new connection: %v", c.err)
		}
	}
	if after := nftTables(t); after != tables {
		t.Errorf("packet filter tables are left behind, expected %q, got %q", tables, after)
	}
}

// client is one connection, and what it knows of its keys.
type client struct {
	protocol
	id       int
	conn     net.Conn
	r        *bufio.Reader
	w        *bufio.Writer
	versions []atomic.Int64 // of its keys, as last sent
	written  []int          // keys in the order of their new versions
	done     atomic.Int64   // operations
	err      error
}

func connect(t *testing.T, speak protocol, port string, what load) []*client {
	t.Helper()
	var clients []*client
	eventually(t, "a server at port "+port, func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	for id := range what.connections {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		clients = append(clients, &client{protocol: speak, id: id, conn: conn, r: bufio.NewReader(conn), w: bufio.NewWriter(conn),
			versions: make([]atomic.Int64, what.keys)})
	}
	giveTime(t, clients)
	return clients
}

// giveTime moves the end of the time within which the clients expect answers, so that one that never comes is an error.
func giveTime(t *testing.T, clients []*client) {
	t.Helper()
	for _, c := range clients {
		if err := c.conn.SetDeadline(time.Now().Add(3 * time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
}

// all runs one method of all clients at once and fails the test with the first error of each.
func all(t *testing.T, clients []*client, do func(*client)) {
	t.Helper()
	var group sync.WaitGroup
	for _, c := range clients {
		group.Go(func() { do(c) })
	}
	group.Wait()
	for _, c := range clients {
		if c.err != nil {
			t.Fatalf("connection %d: %v", c.id, c.err)
		}
	}
}

// goOn waits until every client has done some more operations.
func goOn(t *testing.T, clients []*client, before []int64) {
	t.Helper()
	eventually(t, "operations on every connection", func() bool {
		for i, c := range clients {
			if c.done.Load() < before[i]+10 {
				return false
			}
		}
		return true
	})
}

func operations(clients []*client) []int64 {
	var counts []int64
	for _, c := range clients {
		counts = append(counts, c.done.Load())
	}
	return counts
}

func (c *client) key(n int) string { return fmt.Sprintf("key:%d:%d", c.id, n) }

// content is the value of a key at a version, which stands at its beginning.
func (c *client) content(n int, version int64) []byte {
	value := binary.LittleEndian.AppendUint64(make([]byte, 0, loadValueSize), uint64(version))
	random := rand.NewChaCha8([32]byte{byte(c.id), byte(n), byte(n >> 8), byte(version), byte(version >> 8), byte(version >> 16)})
	_, _ = random.Read(value[len(value):cap(value)]) // never fails
	return value[:cap(value)]
}

func (c *client) put(n int) error {
	c.set(c.w, c.key(n), c.content(n, c.versions[n].Load()))
	if err := c.w.Flush(); err != nil {
		return err
	}
	return c.setDone(c.r)
}

// fetch asks for the value of a key.
func (c *client) fetch(n int) ([]byte, error) {
	c.get(c.w, c.key(n))
	if err := c.w.Flush(); err != nil {
		return nil, err
	}
	return c.value(c.r)
}

// version tells which version of a key a value is, and that it is whole.
func (c *client) version(n int, value []byte) (int64, error) {
	if len(value) != loadValueSize {
		return 0, fmt.Errorf("value of %s, expected %d bytes, got %d", c.key(n), loadValueSize, len(value))
	}
	version := int64(binary.LittleEndian.Uint64(value))
	if !bytes.Equal(value, c.content(n, version)) {
		return 0, fmt.Errorf("value of %s at version %d is not what was sent", c.key(n), version)
	}
	return version, nil
}

// check verifies that a key has its last version.
func (c *client) check(n int) error {
	now := c.versions[n].Load()
	return c.checkBetween(n, now, now)
}

// checkBetween verifies that a key has one of some versions.
func (c *client) checkBetween(n int, oldest, newest int64) error {
	value, err := c.fetch(n)
	if err != nil {
		return err
	}
	version, err := c.version(n, value)
	if err == nil && (version < oldest || version > newest) {
		err = fmt.Errorf("value of %s, expected version %d to %d, got %d", c.key(n), oldest, newest, version)
	}
	return err
}

func (c *client) fillAll() {
	for n := 0; n < len(c.versions) && c.err == nil; n++ {
		c.err = c.put(n)
	}
}

func (c *client) verifyAll() {
	for n := 0; n < len(c.versions) && c.err == nil; n++ {
		c.err = c.check(n)
	}
}

// work reads and writes keys at random until over.
func (c *client) work(over *atomic.Bool) {
	random := rand.New(rand.NewPCG(uint64(c.id), 1))
	for !over.Load() && c.err == nil {
		n := random.IntN(len(c.versions))
		if random.IntN(3) == 0 {
			c.versions[n].Add(1)
			c.written = append(c.written, n)
			c.err = c.put(n)
		} else {
			c.err = c.check(n)
		}
		c.done.Add(1)
	}
}

// memcached speaks the text protocol, see protocol.txt of memcached.
type memcached struct{}

func (memcached) set(w *bufio.Writer, key string, value []byte) {
	fmt.Fprintf(w, "set %s 0 0 %d\r\n%s\r\n", key, len(value), value)
}

func (memcached) setDone(r *bufio.Reader) error { return expectLine(r, "STORED\r\n") }

func (memcached) get(w *bufio.Writer, key string) { fmt.Fprintf(w, "get %s\r\n", key) }

func (memcached) value(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	var key string
	var flags, size int
	if _, err := fmt.Sscanf(line, "VALUE %s %d %d\r\n", &key, &flags, &size); err != nil {
		return nil, fmt.Errorf("answer %q: %w", line, err)
	}
	value, err := readValue(r, size)
	if err != nil {
		return nil, err
	}
	return value, expectLine(r, "END\r\n")
}

// redis speaks RESP, see redis.io/docs/reference/protocol-spec.
type redis struct{}

func (redis) set(w *bufio.Writer, key string, value []byte) {
	fmt.Fprintf(w, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(key), key, len(value), value)
}

func (redis) setDone(r *bufio.Reader) error { return expectLine(r, "+OK\r\n") }

func (redis) get(w *bufio.Writer, key string) {
	fmt.Fprintf(w, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len(key), key)
}

func (redis) value(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	var size int
	if _, err := fmt.Sscanf(line, "$%d\r\n", &size); err != nil || size < 0 {
		return nil, fmt.Errorf("answer %q, expected a value", line)
	}
	return readValue(r, size)
}

func expectLine(r *bufio.Reader, want string) error {
	line, err := r.ReadString('\n')
	if err == nil && line != want {
		err = fmt.Errorf("answer, expected %q, got %q", want, line)
	}
	return err
}

// readValue reads size bytes and the end of line behind them.
func readValue(r *bufio.Reader, size int) ([]byte, error) {
	value := make([]byte, size)
	if _, err := io.ReadFull(r, value); err != nil {
		return nil, err
	}
	return value, expectLine(r, "\r\n")
}

// freePort finds a TCP port that nobody uses now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}
