package kernel

import (
	"context"
	"errors"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// WriteUntil writes text to a file of the kernel's by one write(2), for which the kernel may work for long, and looks for signals meanwhile: the state of a memory
// block in sysfs is such a file. When ctx ends a signal ends the write, and the error matches that of ctx.
func WriteUntil(ctx context.Context, path, text string) error {
	fd, err := Open(path, unix.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := writeUntil(ctx, fd, text); err != nil {
		return &os.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

func writeUntil(ctx context.Context, fd int, text string) error {
	tid, result := make(chan int, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		tid <- unix.Gettid()
		_, err := unix.Write(fd, []byte(text))
		for err == EINTR && ctx.Err() == nil { // Go's runtime sends signals of its own
			_, err = unix.Write(fd, []byte(text))
		}
		result <- err
	}()
	err := interruptible(ctx, <-tid, result)
	if errors.Is(err, EINTR) {
		return context.Cause(ctx)
	}
	return err
}

// interruptible waits for the result of a thread, to which it sends signals from the end of ctx on.
func interruptible(ctx context.Context, tid int, result <-chan error) error {
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	for {
		// A signal may come a moment too early, so there are several. Go's runtime uses this one to interrupt threads itself.
		_ = unix.Tgkill(os.Getpid(), tid, unix.SIGURG)
		select {
		case err := <-result:
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}
