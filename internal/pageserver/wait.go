package pageserver

import (
	"context"
	"time"

	"github.com/kup-project/kup/internal/refuse"
)

// stalled is how long a server may bring in nothing before nobody waits for it any more.
const stalled = 30 * time.Second

// Wait waits until a process, and all that were restored with it, have got their memory back, or were ended because they have not. It gives up, with an error that matches
// refuse.ErrRefused, when that makes no progress. Progress may be nil; it counts bytes.
func Wait(ctx context.Context, pid int, progress func(step string, done, total int64)) error {
	last, since := uint64(0), time.Now()
	for {
		f, err := unfinished(pid)
		if err != nil || f == nil {
			return err
		}
		done, total := f.Done()
		if progress != nil {
			progress("wait for the page server", int64(done), int64(total))
		}
		if done != last {
			last, since = done, time.Now()
		}
		if time.Since(since) > stalled {
			return refuse.Errorf("pid %d is %v, and that makes no progress; if it is stuck, end the application and restore it again", pid, f)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
