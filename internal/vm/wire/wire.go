// Package wire is what a guest's agent and its host say to each other over a serial port.
//
// A message is one line: the word KUP1, a CRC-32 of the rest, and JSON. Lines that do not check out are dropped: while a
// guest changes kernels, bytes are lost and firmware or a console may write onto the line. So
//
//   - the agent says Hello until it is Welcomed, and again when its start-up is over;
//   - every request names the boot it is meant for, and an agent of another boot ignores it;
//   - the host repeats a request until it is Accepted, and the agent knows those it has seen.
package wire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
)

// Type says what a message is.
type Type string

// From the agent.
const (
	Hello    Type = "hello"    // Boot, Release, Uptime, Ready, Note
	Accepted Type = "accepted" // ID: the request has arrived
	Output   Type = "output"   // ID, Stream, Data: what a command wrote
	Done     Type = "done"     // ID, Error, and for Run ExitCode, Lengths; for Read Data
)

// From the host.
const (
	Welcome  Type = "welcome"  // Boot, Ready: the Hello has arrived
	Run      Type = "run"      // ID, Args, Env, Data: standard input
	Kill     Type = "kill"     // ID, Target: end the command that Run request Target started
	Write    Type = "write"    // ID, Path, Mode, Offset, Data, Seconds
	Read     Type = "read"     // ID, Path, Offset
	PowerOff Type = "poweroff" // ID: sync, unmount the disk, power off
)

// Stream is a command's output.
const (
	Stdout = 1
	Stderr = 2
)

// ChunkSize is the most Data one message should carry, in bytes.
const ChunkSize = 32 << 10

// Message is every message; which fields it uses is said at its Type.
type Message struct {
	Type Type   `json:"type"`
	Boot string `json:"boot,omitempty"` // the kernel's boot_id, random(4); in every message
	ID   uint64 `json:"id,omitempty"`

	Release string  `json:"release,omitempty"` // uname -r
	Uptime  float64 `json:"uptime,omitempty"`  // seconds since the kernel started
	Ready   bool    `json:"ready,omitempty"`   // start-up is over
	Note    string  `json:"note,omitempty"`    // what went wrong in start-up

	Args    []string `json:"args,omitempty"`
	Env     []string `json:"env,omitempty"`
	Target  uint64   `json:"target,omitempty"`
	Path    string   `json:"path,omitempty"`
	Mode    uint32   `json:"mode,omitempty"`
	Offset  int64    `json:"offset,omitempty"`
	Seconds int64    `json:"seconds,omitempty"` // modification time, Unix time; 0 leaves it
	Stream  int      `json:"stream,omitempty"`
	Data    []byte   `json:"data,omitempty"`

	ExitCode int      `json:"exit,omitempty"` // 128+N for a command that signal N killed
	Lengths  [2]int64 `json:"lengths"`        // bytes sent as Stdout, Stderr, so that a loss is noticed
	Error    string   `json:"error,omitempty"`
}

const magic = "KUP1 "

// ErrDamaged matches the error of a line that is no intact message.
var ErrDamaged = errors.New("damaged message")

// Encode writes a message as one line.
func Encode(w io.Writer, m Message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	// The leading newline cuts off whatever stray bytes the line held before.
	line := fmt.Appendf(nil, "\n%s%08x %s\n", magic, crc32.ChecksumIEEE(body), body)
	_, err = w.Write(line)
	return err
}

// Decode reads one line's message, without its newline.
func Decode(line []byte) (Message, error) {
	var m Message
	at := bytes.LastIndex(line, []byte(magic))
	if at < 0 {
		return m, fmt.Errorf("%w: no %q in %d bytes", ErrDamaged, magic, len(line))
	}
	sum, body, found := bytes.Cut(line[at+len(magic):], []byte(" "))
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if !found || err != nil {
		return m, fmt.Errorf("%w: no checksum", ErrDamaged)
	}
	if got := crc32.ChecksumIEEE(body); got != uint32(want) {
		return m, fmt.Errorf("%w: checksum %08x, want %08x", ErrDamaged, got, want)
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return m, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return m, nil
}

// Receive reads messages and hands each intact one to handle, until reading fails; it returns that error.
func Receive(r io.Reader, handle func(Message)) error {
	in := bufio.NewReaderSize(r, 4*ChunkSize)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return err
		}
		if m, err := Decode(bytes.TrimSpace(line)); err == nil {
			handle(m)
		}
	}
}
