// Program golang is a self-checking Go program: tickers, channels, a server with connections over loopback, and a heap
// that the garbage collector works on. It speaks the protocol of check.h.
package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc64"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

var (
	log      *os.File
	finish   string
	progress atomic.Uint64
)

func say(format string, args ...any) { fmt.Fprintf(log, format+"\n", args...) }

func fail(format string, args ...any) {
	say("FAIL: "+format, args...)
	os.Exit(1)
}

func finishing() bool {
	_, err := os.Stat(finish)
	return err == nil
}

var table = crc64.MakeTable(crc64.ECMA)

// node is a piece of a heap full of pointers. Its sum covers its data.
type node struct {
	data [200]byte
	sum  uint64
	next []*node
}

func newNode(n uint64) *node {
	x := &node{}
	for i := range x.data {
		x.data[i] = byte(n*31 + uint64(i)*7)
	}
	x.sum = crc64.Checksum(x.data[:], table)
	return x
}

// heap keeps a tree of nodes, replaces branches all the time, and verifies what stays.
func heap(seed uint64) {
	roots := make([]*node, 200)
	for round := uint64(0); !finishing(); round++ {
		root := newNode(seed + round)
		for i := range uint64(20) {
			root.next = append(root.next, newNode(seed*round+i))
		}
		roots[round%200] = root
		for _, r := range roots {
			if r == nil {
				continue
			}
			for _, x := range append(r.next, r) {
				if sum := crc64.Checksum(x.data[:], table); sum != x.sum {
					fail("checksum of a heap object, expected %#x, got %#x", x.sum, sum)
				}
			}
		}
		if round%100 == 0 {
			runtime.GC()
		}
		progress.Add(1)
	}
}

// ticking verifies that a ticker is never early and never stops.
func ticking() {
	const period = 20 * time.Millisecond
	start := time.Now()
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for n := 1; !finishing(); n++ {
		select {
		case <-ticker.C:
		case <-time.After(10 * time.Second):
			fail("a ticker of %v, expected a tick, got none in 10 s", period)
		}
		if passed := time.Since(start); passed < time.Duration(n)*period-period {
			fail("a ticker of %v, expected at most %d ticks in %v, got %d", period, passed/period+1, passed, n)
		}
		progress.Add(1)
	}
}

// passing sends numbers around a ring of goroutines.
func passing() {
	const members = 50
	first := make(chan int)
	last := first
	for range members {
		in, out := last, make(chan int)
		go func() {
			for v := range in {
				out <- v + 1
			}
			close(out)
		}()
		last = out
	}
	for v := 0; !finishing(); v++ {
		first <- v
		if got := <-last; got != v+members {
			fail("number from the ring, expected %d, got %d", v+members, got)
		}
		progress.Add(1)
	}
	close(first)
	<-last
}

func serve(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			if _, err := io.Copy(conn, conn); err != nil {
				fail("echo: %v", err)
			}
		}()
	}
}

// talk sends numbers over one connection and verifies the echo.
func talk(network, address string) {
	conn, err := net.Dial(network, address)
	if err != nil {
		fail("dial: %v", err)
	}
	defer conn.Close()
	reader := bufio.NewReader(conn)
	var buffer [8]byte
	for n := uint64(0); !finishing(); n++ {
		binary.LittleEndian.PutUint64(buffer[:], n)
		if _, err := conn.Write(buffer[:]); err != nil {
			fail("write of message %d: %v", n, err)
		}
		if _, err := io.ReadFull(reader, buffer[:]); err != nil {
			fail("echo of message %d: %v", n, err)
		}
		if got := binary.LittleEndian.Uint64(buffer[:]); got != n {
			fail("echo, expected %d, got %d", n, got)
		}
		progress.Add(1)
		time.Sleep(time.Millisecond)
	}
}

func main() {
	finish = os.Args[2]
	// A steady program opens and closes nothing while it works, so that its descriptors can be compared.
	steady := os.Getenv("STEADY") != ""
	var err error
	if log, err = os.OpenFile(os.Args[1], os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666); err != nil {
		panic(err)
	}
	pid := os.Getpid()
	var workers sync.WaitGroup
	for seed := range uint64(3) {
		workers.Go(func() { heap(seed * 1000) })
	}
	workers.Go(ticking)
	workers.Go(passing)
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			fail("listen: %v", err)
		}
		go serve(listener)
		for range 4 {
			workers.Go(func() { talk("tcp", listener.Addr().String()) })
		}
		if steady {
			continue
		}
		// A connection made anew in each round: the listener works on.
		workers.Go(func() {
			for !finishing() {
				conn, err := net.Dial("tcp", listener.Addr().String())
				if err != nil {
					fail("dial: %v", err)
				}
				conn.Close()
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	say("ready")
	// The count of finished rounds, for whoever wants to see that the program goes on.
	counter, err := os.OpenFile(filepath.Join(filepath.Dir(os.Args[1]), "progress"), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		fail("%v", err)
	}
	for !finishing() {
		if os.Getpid() != pid {
			fail("pid, expected %d, got %d", pid, os.Getpid())
		}
		if _, err := counter.WriteAt(binary.LittleEndian.AppendUint64(nil, progress.Load()), 0); err != nil {
			fail("%v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	workers.Wait()
	say("ok")
}
