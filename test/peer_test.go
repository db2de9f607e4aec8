package test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// talkTCP is the peer of programs/net/tcppeer.c.
func talkTCP(t *testing.T, p *program) func() {
	port4, port6 := p.value(t, "port4"), p.value(t, "port6")
	flows := []*flow{
		dial(t, fmt.Sprintf("127.0.0.1:%d", port4)),
		dial(t, fmt.Sprintf("[::1]:%d", port6)),
	}
	quiet := dial(t, fmt.Sprintf("127.0.0.1:%d", port4))
	if _, err := quiet.conn.Write(noise(4, 100000)); err != nil {
		t.Fatal(err)
	}
	p.waitReady(t)
	var all sync.WaitGroup
	var over atomic.Bool
	for _, f := range flows {
		all.Go(func() { f.send(&over) })
		all.Go(f.receive)
	}
	return func() {
		over.Store(true)
		sent := p.value(t, "sent")
		all.Go(func() { quiet.verify(3, sent) })
		// The program ends its direction at its finish.
		t.Cleanup(func() {
			if t.Failed() {
				for _, f := range append(flows, quiet) {
					f.conn.Close()
				}
			}
			all.Wait()
			for _, f := range append(flows, quiet) {
				if f.err != nil {
					t.Errorf("peer at %v: %v", f.conn.LocalAddr(), f.err)
				}
				f.conn.Close()
			}
		})
	}
}

// knock is the peer of programs/net/shortlived.c: several clients that connect all the time.
func knock(t *testing.T, p *program) func() {
	address := fmt.Sprintf("127.0.0.1:%d", p.value(t, "port"))
	p.waitReady(t)
	var over atomic.Bool
	served, failed := make(chan int), make(chan error, 4)
	for client := range cap(failed) {
		go func() {
			n := 0
			for ; !over.Load(); n++ {
				if err := askOnce(address, uint64(client)<<32|uint64(n)); err != nil {
					failed <- fmt.Errorf("connection %d of client %d: %w", n, client, err)
					break
				}
				time.Sleep(time.Millisecond)
			}
			served <- n
		}()
	}
	return func() {
		over.Store(true)
		for range cap(failed) {
			if n := <-served; n == 0 {
				t.Errorf("a client was never served")
			}
		}
		close(failed)
		for err := range failed {
			t.Error(err)
		}
	}
}

// askOnce makes a connection for one word, which must come back.
func askOnce(address string, word uint64) error {
	conn, err := net.DialTimeout("tcp", address, time.Minute)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := conn.Write(binary.LittleEndian.AppendUint64(nil, word)); err != nil {
		return err
	}
	got, err := io.ReadAll(conn)
	if err == nil && (len(got) != 8 || binary.LittleEndian.Uint64(got) != word) {
		err = fmt.Errorf("%x came back of %x", got, word)
	}
	return err
}

// flow is the harness's end of a connection with numbered words in both directions.
type flow struct {
	conn *net.TCPConn
	err  error // of the receiving side, or of the sending side
}

func dial(t *testing.T, address string) *flow {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(3 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	return &flow{conn: conn.(*net.TCPConn)}
}

// send writes numbered words until over, then ends its direction.
func (f *flow) send(over *atomic.Bool) {
	for n := uint64(0); !over.Load(); {
		var block []byte
		for range 64 {
			block = binary.LittleEndian.AppendUint64(block, n)
			n++
		}
		if _, err := f.conn.Write(block); err != nil {
			f.err = fmt.Errorf("send of word %d: %w", n, err)
			return
		}
		time.Sleep(time.Millisecond)
	}
	if err := f.conn.CloseWrite(); err != nil {
		f.err = err
	}
}

// receive verifies numbered words until the other end is done.
func (f *flow) receive() {
	reader := bufio.NewReader(f.conn)
	for want := uint64(0); ; want++ {
		var word [8]byte
		if _, err := io.ReadFull(reader, word[:]); err == io.EOF {
			return
		} else if err != nil {
			f.err = fmt.Errorf("receive of word %d: %w", want, err)
			return
		}
		if got := binary.LittleEndian.Uint64(word[:]); got != want {
			f.err = fmt.Errorf("word, expected %d, got %d", want, got)
			return
		}
	}
}

// verify ends this direction and reads exactly size bytes of noise.
func (f *flow) verify(seed uint64, size int) {
	if f.err = f.conn.CloseWrite(); f.err != nil {
		return
	}
	got := make([]byte, size)
	if _, err := io.ReadFull(f.conn, got); err != nil {
		f.err = fmt.Errorf("receive of %d quiet bytes: %w", size, err)
		return
	}
	for i, b := range noise(seed, size) {
		if got[i] != b {
			f.err = fmt.Errorf("quiet byte %d, expected %#x, got %#x", i, b, got[i])
			return
		}
	}
}

// noise is check.h's.
func noise(seed uint64, size int) []byte {
	content := make([]byte, size)
	for i := range content {
		x := uint64(i)>>3 + seed*0x9e3779b97f4a7c15 + 1
		x ^= x >> 33
		x *= 0xff51afd7ed558ccd
		x ^= x >> 33
		x *= 0xc4ceb9fe1a85ec53
		x ^= x >> 33
		content[i] = byte(x >> (8 * (i & 7)))
	}
	return content
}
