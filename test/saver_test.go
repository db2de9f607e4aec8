package test

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kup-project/kup/internal/pageserver"
)

// TestRedisSavesThroughRounds takes redis through rounds while its clients write and it forks and saves all the time. What its children have saved is
// loaded by another server, and compared with what the clients had sent.
func TestRedisSavesThroughRounds(t *testing.T) {
	port := freePort(t)
	p := newProgram(t)
	p.launch(t, redisAt(port)...)
	clients := connect(t, redis{}, port, roundLoad)
	all(t, clients, (*client).fillAll)
	s := newSaver(t, p, port, clients)
	stop := keepBusy(t, clients)
	stopSaving := s.keepSaving(t)
	var c course
	// On a busy machine all memory may be back before it has forked, many times in a row.
	for n := 0; n < rounds() || s.lacking.Load() == 0 && n < 10*rounds(); n++ {
		giveTime(t, append(s.all(), clients...))
		before := operations(clients)
		if n%2 == 0 {
			c.round(t, p, func() { goOn(t, clients, before) })
			continue
		}
		// It does not save now, and forks as soon as it is back.
		s.turn.Lock()
		c.round(t, p, s.turn.Unlock)
	}
	stopSaving()
	stop()
	all(t, clients, (*client).verifyAll)
	c.tell(t)
	t.Logf("saved %d times, %d dumps compared; %d begun while memory was missing", s.saved, s.compared, s.lacking.Load())
	if lacking := int(s.lacking.Load()); lacking == 0 || s.compared < lacking {
		t.Error("no dump was begun while memory was missing, or some of these were not compared")
	}
}

// saver lets a redis server save again and again, and compares what it has saved.
type saver struct {
	server  *program
	conn    *client    // its own connection
	clients []*client  // whose keys are saved
	turn    sync.Mutex // held during each save

	reader  *program  // a second server, which loads what the first has saved
	readers []*client // connections to it, as clients

	saved, compared int
	lacking         atomic.Int64
}

// dump is what a child of redis has saved.
type dump struct {
	path           string
	lacking        bool      // the child was forked while memory was missing
	oldest, newest [][]int64 // versions that keys can have in it, by client
}

func newSaver(t *testing.T, server *program, port string, clients []*client) *saver {
	t.Helper()
	s := &saver{server: server, conn: connect(t, redis{}, port, load{connections: 1})[0], clients: clients, reader: newProgram(t)}
	other := freePort(t)
	s.reader.launch(t, append(redisAt(other), "--enable-debug-command", "local")...)
	s.readers = connect(t, redis{}, other, load{connections: len(clients)})
	return s
}

// all returns the saver's own connections.
func (s *saver) all() []*client { return append([]*client{s.conn}, s.readers...) }

// keepSaving saves until stop is called. Dumps are compared meanwhile, one at a time; those for which there is no time are dropped, but none that was
// begun while memory was missing.
func (s *saver) keepSaving(t *testing.T) (stop func()) {
	var over atomic.Bool
	var working sync.WaitGroup
	dumps := make(chan dump)
	var saveErr, compareErr error
	working.Go(func() {
		defer close(dumps)
		for !over.Load() && saveErr == nil {
			saveErr = s.save(dumps)
		}
	})
	working.Go(func() {
		for d := range dumps {
			if compareErr == nil {
				compareErr = s.compare(&d)
			}
		}
	})
	stop = sync.OnceFunc(func() {
		over.Store(true)
		working.Wait()
		if saveErr != nil || compareErr != nil {
			t.Errorf("save: %v; compare what was saved: %v", saveErr, compareErr)
		}
	})
	t.Cleanup(stop)
	return stop
}

// save lets the server save once.
func (s *saver) save(dumps chan<- dump) error {
	d, err := s.saveOnce()
	if err != nil {
		return err
	}
	s.saved++
	if d.lacking {
		s.lacking.Add(1)
		dumps <- d
		return nil
	}
	select {
	case dumps <- d:
		return nil
	default:
		return os.Remove(d.path)
	}
}

func (s *saver) saveOnce() (d dump, err error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	// A version counts up before it is sent.
	d.oldest = s.versions(-1)
	answer, err := s.conn.ask("BGSAVE")
	d.newest = s.versions(0)
	if err != nil || answer != "+Background saving started" {
		return d, fmt.Errorf("BGSAVE: answer %q, %v", answer, err)
	}
	f, err := pageserver.Find(s.server.pid)
	if err != nil {
		return d, err
	}
	d.lacking = f != nil
	for {
		info, err := s.conn.askBulk("INFO persistence")
		if err != nil {
			return d, err
		}
		if strings.Contains(info, "rdb_bgsave_in_progress:0") {
			if !strings.Contains(info, "rdb_last_bgsave_status:ok") {
				return d, fmt.Errorf("BGSAVE has failed:\n%s", info)
			}
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	d.path = s.reader.path(fmt.Sprintf("dump-%d.rdb", s.saved))
	return d, os.Rename(s.server.path("dump.rdb"), d.path)
}

// versions are those of all keys, that number of them added.
func (s *saver) versions(add int64) (all [][]int64) {
	for _, c := range s.clients {
		own := make([]int64, len(c.versions))
		for n := range own {
			own[n] = max(0, c.versions[n].Load()+add)
		}
		all = append(all, own)
	}
	return all
}

// compare loads a dump into the second server and reads every key there.
func (s *saver) compare(d *dump) error {
	if err := os.Rename(d.path, s.reader.path("dump.rdb")); err != nil {
		return err
	}
	if answer, err := s.readers[0].ask("DEBUG RELOAD NOSAVE"); err != nil || answer != "+OK" {
		return fmt.Errorf("load %s: answer %q, %v\n%s", d.path, answer, err, s.reader.read("output"))
	}
	for i, c := range s.readers {
		for n := range d.oldest[i] {
			if err := c.checkBetween(n, d.oldest[i][n], d.newest[i][n]); err != nil {
				return fmt.Errorf("in %s (begun while memory was missing: %v): %w", d.path, d.lacking, err)
			}
		}
	}
	s.compared++
	return nil
}

// ask sends an inline command to redis and returns the line it answers.
func (c *client) ask(command string) (string, error) {
	if _, err := io.WriteString(c.conn, command+"\r\n"); err != nil {
		return "", err
	}
	line, err := c.r.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

// askBulk is ask for an answer of several lines.
func (c *client) askBulk(command string) (string, error) {
	head, err := c.ask(command)
	if err != nil {
		return "", err
	}
	var size int
	if _, err := fmt.Sscanf(head, "$%d", &size); err != nil {
		return "", fmt.Errorf("%s: answer %q, expected a text", command, head)
	}
	text, err := readValue(c.r, size)
	return string(text), err
}
