package object

import (
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/parallel"
	"github.com/kup-project/kup/internal/tracee"
)

// CaptureAll fills c.State, which has its processes already, with all that they hold through descriptors. The processes are
// frozen. ReleaseSockets is called when they were thawed or are gone.
func CaptureAll(c *Capture) error {
	var pids []int
	for i := range c.State.Processes {
		if p := &c.State.Processes[i]; p.State != image.Zombie {
			pids = append(pids, p.PID)
		}
	}
	return c.capture(pids)
}

// arm makes sure that whatever Capture does to objects is taken back, before it does it.
func (c *Capture) arm() error {
	if err := c.checkFrozen(); err != nil {
		return err
	}
	batches := map[int]*tracee.Batch{}
	for i := range c.captured {
		one := &c.captured[i]
		h := one.handler
		if h.Undo == nil || c.Cleanup == nil {
			continue
		}
		b := batches[one.d.PID]
		if b == nil {
			b = c.Cleanup(one.d.PID)
			batches[one.d.PID] = b
		}
		if err := h.Undo(b, one.d); err != nil {
			return err
		}
	}
	for _, b := range batches {
		if err := b.Run(); err != nil {
			return err
		}
	}
	return nil
}

// checkFrozen finds the handlers of all open file descriptions, and lets them refuse once more.
func (c *Capture) checkFrozen() error {
	all := make([]*captured, len(c.captured))
	for i := range all {
		all[i] = &c.captured[i]
	}
	return parallel.Urgently(all, func(one *captured) (err error) {
		one.handler, err = c.check(one.d)
		return err
	})
}
