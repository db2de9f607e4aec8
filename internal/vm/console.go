package vm

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Mark is a step of a guest's start-up or of an update in it, as its init or kup reported it on the console.
type Mark struct {
	What   string
	Uptime float64   // seconds since the guest's kernel started
	At     time.Time // when the host read it
}

// tailLines is how much of the console an error message shows.
const tailLines = 60

// console copies a guest's serial console into a file, with the time of day and the seconds since the start before each
// line.
type console struct {
	file  *os.File
	start time.Time
	done  chan struct{} // closed at the console's end

	mu    sync.Mutex
	tail  []string
	marks []Mark
}

func newConsole(path string) (*console, error) {
	// Appended, so that a second attempt does not wipe out why the first failed.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	return &console{file: file, start: time.Now(), done: make(chan struct{})}, nil
}

var (
	escapeSequence = regexp.MustCompile(`\x1b(\[[0-9;?=]*[a-zA-Z]|c)`)
	markLine       = regexp.MustCompile(`kup(?:-guest)?: (.*) uptime=([0-9.]+)`)
)

// follow reads the console to its end.
func (c *console) follow(r io.ReadCloser) {
	defer close(c.done)
	defer c.file.Close()
	defer r.Close()
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if line = strings.Trim(escapeSequence.ReplaceAllString(line, ""), "\r\n"); line != "" {
			c.add(line)
		}
		if err != nil {
			return
		}
	}
}

func (c *console) add(line string) {
	now := time.Now()
	stamped := fmt.Sprintf("%s %8.3f %s", now.Format("15:04:05.000"), now.Sub(c.start).Seconds(), line)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.tail) == tailLines {
		c.tail = slices.Delete(c.tail, 0, 1)
	}
	c.tail = append(c.tail, stamped)
	if m := markLine.FindStringSubmatch(line); m != nil {
		if uptime, err := strconv.ParseFloat(m[2], 64); err == nil {
			c.marks = append(c.marks, Mark{What: m[1], Uptime: uptime, At: now})
		}
	}
	// A full disk must not stop the guest, whose console would block; the tail still has the lines.
	_, _ = fmt.Fprintln(c.file, stamped)
}

func (c *console) lastLines() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.tail, "\n")
}

func (c *console) allMarks() []Mark {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.marks)
}
