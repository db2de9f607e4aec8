package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReceiveDropsDamagedLinesOnly(t *testing.T) {
	sent := []Message{
		{Type: Hello, Boot: "b1", Release: "6.1", Uptime: 2.5},
		{Type: Output, Boot: "b1", ID: 7, Stream: Stderr, Data: []byte("KUP1 00000000 {}\n\x00\xff")},
		{Type: Done, Boot: "b1", ID: 7, ExitCode: 3, Lengths: [2]int64{0, 18}},
	}
	var line bytes.Buffer
	line.WriteString("SeaBIOS (version 1.16)\r\n\x1bc\x00garbage without end")
	for _, m := range sent {
		if err := Encode(&line, m); err != nil {
			t.Fatal(err)
		}
		var torn bytes.Buffer
		if err := Encode(&torn, m); err != nil {
			t.Fatal(err)
		}
		line.Write(torn.Bytes()[torn.Len()/2:]) // a message that lost its beginning
		torn.Bytes()[torn.Len()-4] ^= 1         // and one with a flipped bit
		line.Write(torn.Bytes())
		line.WriteString("KUP1 half a mess") // and one that lost its end
	}
	var got []Message
	if err := Receive(&line, func(m Message) { got = append(got, m) }); err != io.EOF {
		t.Fatalf("Receive: %v, want EOF", err)
	}
	if d := cmp.Diff(sent, got); d != "" {
		t.Errorf("received messages (-sent +got):\n%s", d)
	}
}

func TestDecodeNamesDamage(t *testing.T) {
	for _, line := range []string{"", "KUP1", "KUP1 ", "KUP1 zz {}", "KUP1 00000000 {}", `{"type":"hello"}`} {
		if _, err := Decode([]byte(line)); !errors.Is(err, ErrDamaged) {
			t.Errorf("Decode(%q): %v, want ErrDamaged", line, err)
		}
	}
}
