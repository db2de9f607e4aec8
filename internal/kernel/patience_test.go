package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"
)

// TestWriteUntil writes to a pipe that is full.
func TestWriteUntil(t *testing.T) {
	r, w, err := Pipe()
	if err != nil {
		t.Fatal(err)
	}
	reader, writer := os.NewFile(uintptr(r), "r"), os.NewFile(uintptr(w), "w")
	defer reader.Close()
	defer writer.Close()
	size, err := PipeSize(w)
	if err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/proc/self/fd/%d", w)
	if err := WriteUntil(t.Context(), path, string(make([]byte, size))); err != nil {
		t.Fatal(err)
	}
	for _, want := range []error{context.DeadlineExceeded, context.Canceled} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if want == context.Canceled {
			time.AfterFunc(20*time.Millisecond, cancel)
		}
		if err := WriteUntil(ctx, path, "x"); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
		cancel()
	}
	time.AfterFunc(50*time.Millisecond, func() {
		if _, err := reader.Read(make([]byte, size)); err != nil {
			t.Error(err)
		}
	})
	if err := WriteUntil(t.Context(), path, "x"); err != nil {
		t.Error(err)
	}
	if err := WriteUntil(t.Context(), "/nowhere", "x"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
