package object

import (
	"github.com/kup-project/kup/internal/tracee"
)

// arm makes sure that whatever Capture does to objects is taken back, before it does it.
func (c *Capture) arm() error {
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
