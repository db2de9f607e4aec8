// Command gosurvivor checks itself all the time, as survivor.c does: goroutines on many threads that allocate, collect, sleep, pass
// messages and use pipes. It counts rounds as 8-byte words in the file named by its argument.
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"time"
)

var file *os.File

func count(slot int, n uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	if _, err := file.WriteAt(b[:], int64(8*slot)); err != nil {
		fail("count: %v", err)
	}
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "gosurvivor: "+format+"\n", args...)
	os.Exit(1)
}

func hash(slot int) {
	data := make([]byte, 64<<10)
	want := sha256.Sum256(data)
	for n := uint64(1); ; n++ {
		garbage := make([]byte, len(data))
		if sha256.Sum256(garbage) != want {
			fail("a hash differs")
		}
		count(slot, n)
	}
}

func sleep(slot int) {
	for n := uint64(1); ; n++ {
		begin := time.Now()
		time.Sleep(2 * time.Millisecond)
		if took := time.Since(begin); took < 2*time.Millisecond {
			fail("slept only %v", took)
		}
		count(slot, n)
	}
}

func chat(slot int) {
	to, from := make(chan uint64), make(chan uint64)
	go func() {
		for v := range to {
			from <- v * 3
		}
	}()
	for n := uint64(1); ; n++ {
		to <- n
		if got := <-from; got != 3*n {
			fail("%d came back as %d", n, got)
		}
		if n%64 == 0 {
			count(slot, n)
		}
	}
}

func pipes(slot int) {
	r, w, err := os.Pipe()
	if err != nil {
		fail("pipe: %v", err)
	}
	go func() {
		for n := uint64(1); ; n++ {
			if err := binary.Write(w, binary.LittleEndian, n); err != nil {
				fail("write: %v", err)
			}
		}
	}()
	for n := uint64(1); ; n++ {
		var got uint64
		if err := binary.Read(r, binary.LittleEndian, &got); err != nil || got != n {
			fail("read %d instead of %d, %v", got, n, err)
		}
		if n%64 == 0 {
			count(slot, n)
		}
	}
}

func collect(slot int) {
	for n := uint64(1); ; n++ {
		runtime.GC()
		time.Sleep(time.Millisecond)
		count(slot, n)
	}
}

func main() {
	var err error
	if file, err = os.OpenFile(os.Args[1], os.O_RDWR, 0); err != nil {
		fail("%v", err)
	}
	runtime.GOMAXPROCS(4)
	for slot, run := range []func(int){hash, sleep, chat, pipes, collect} {
		go run(slot)
	}
	time.Sleep(100 * time.Millisecond)
	fmt.Println("ready")
	select {}
}
