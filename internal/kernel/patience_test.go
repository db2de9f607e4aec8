package kernel

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestWriteUntil writes to a socket that is full. One with a time limit is like a memory block: its writes do not begin again after a signal, see signal(7).
func TestWriteUntil(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	if err := unix.SetsockoptTimeval(pair[0], unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 60}); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = unix.SendmsgN(pair[0], []byte("x"), nil, nil, unix.MSG_DONTWAIT)
	}
	for _, want := range []error{context.DeadlineExceeded, context.Canceled} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if want == context.Canceled {
			time.AfterFunc(20*time.Millisecond, cancel)
		}
		if err := writeUntil(ctx, pair[0], "x"); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
		cancel()
	}
	time.AfterFunc(50*time.Millisecond, func() {
		for err := error(nil); err == nil; {
			_, _, err = unix.Recvfrom(pair[1], make([]byte, 1), unix.MSG_DONTWAIT)
		}
	})
	if err := writeUntil(t.Context(), pair[0], "x"); err != nil {
		t.Error(err)
	}
	if err := WriteUntil(t.Context(), "/nowhere", "x"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
