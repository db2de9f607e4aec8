package object

import (
	"slices"
	"testing"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/tracee"
)

const (
	edgeTriggered = 1 << 31
	exclusive     = 1 << 28

	writingEnd = 0xed9e // data for an edge-triggered registration that is always ready
)

// sceneEpoll watches in all the ways that need care.
func sceneEpoll() {
	epfd := must(kernel.EpollCreate())
	watch := func(fd int, events uint32, data uint64) {
		ok(kernel.EpollControl(epfd, kernel.EpollCtlAdd, fd, events, data))
	}
	r, w := pipePair()
	watch(r, kernel.EpollIn, 0xfeedfacecafebeef)
	watch(w, kernel.EpollOut|edgeTriggered, writingEnd)
	watch(must(kernel.EventFD(false)), kernel.EpollIn|exclusive, 1)
	watch(must(kernel.EventFD(false)), kernel.EpollIn|kernel.EpollOneShot, 2)

	// Used up: writable, so it was delivered.
	usedUp := must(kernel.EventFD(false))
	watch(usedUp, kernel.EpollOut|kernel.EpollOneShot, 0)
	must(kernel.EpollReady(epfd))

	// The number is closed, a duplicate keeps the registration.
	moved := must(kernel.EventFD(false))
	watch(moved, kernel.EpollIn, 4)
	must(kernel.Dup(moved))
	ok(kernel.Close(moved))

	// The number stands for something else, and both are watched under it.
	taken := must(kernel.EventFD(false))
	watch(taken, kernel.EpollIn, 5)
	must(kernel.Dup(taken))
	ok(kernel.DupTo(must(kernel.EventFD(true)), taken))
	watch(taken, kernel.EpollIn, 6)

	// Epoll in epoll.
	inner := must(kernel.EpollCreate())
	ok(kernel.EpollControl(inner, kernel.EpollCtlAdd, r, kernel.EpollIn, 7))
	watch(inner, kernel.EpollIn, 8)
}

func TestEpollReportsAfterRebuild(t *testing.T) {
	rebuild(t, "epoll", func(c *Capture, seed *tracee.Seed) {
		for _, one := range c.captured {
			if one.file.Epoll == nil || len(one.file.Epoll.Targets) < 5 {
				continue
			}
			ready, err := kernel.EpollReady(borrow(t, seed, one.d.FD))
			if err != nil {
				t.Fatal(err)
			}
			// The edge of the empty pipe's writing end is reported again; the one that is used up is not.
			if want := []uint64{writingEnd}; !slices.Equal(ready, want) {
				t.Errorf("ready: %#x, want %#x", ready, want)
			}
		}
	})
}
