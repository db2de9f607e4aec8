package object

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/parallel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
)

// Check looks at every descriptor of running processes and returns all refusals together. A process that has ended is left out.
func Check(pids []int) error {
	c := &Capture{running: true, pids: pids}
	refusals := c.shareNoTables()
	for _, pid := range pids {
		table, err := readTable(pid)
		if err != nil {
			return err
		}
		c.descriptors = append(c.descriptors, table...)
	}
	for _, d := range c.descriptors {
		err := c.checkRunning(d)
		if err != nil && !errors.Is(err, refuse.ErrRefused) && !d.still() {
			continue
		}
		refusals = append(refusals, err)
	}
	return errors.Join(refusals...)
}

// checkRunning checks one descriptor. Sockets say little in /proc; so kup takes part in one for the moment of the check.
func (c *Capture) checkRunning(d *Descriptor) error {
	if strings.HasPrefix(d.Link, "socket:") {
		if err := d.duplicate(); err != nil {
			return err
		}
		defer d.release()
	}
	_, err := c.check(d)
	return err
}

// CheckFrozen finds the handlers of all that was taken, and lets them refuse what they can see of it. What was not refused while the application ran may pass: it had
// better be frozen at another instant.
func (c *Capture) CheckFrozen() error {
	all := make([]*captured, len(c.captured))
	for i := range all {
		all[i] = &c.captured[i]
	}
	return parallel.Urgently(all, func(one *captured) (err error) {
		one.handler, err = c.check(one.d)
		return err
	})
}

// still reports whether the descriptor is what it was when it was read.
func (d *Descriptor) still() bool {
	link, err := kernel.ReadLink(d.path())
	return err == nil && link == d.Link
}

// check finds the handler of a descriptor and lets it refuse.
func (c *Capture) check(d *Descriptor) (*Handler, error) {
	h, err := handlerOf(d)
	if err != nil {
		return nil, err
	}
	if err := refuseLocks(h, d); err != nil {
		return nil, err
	}
	if h.Check == nil {
		return h, nil
	}
	return h, h.Check(c, d)
}

// shareNoTables refuses processes and threads that share, or do not share, a descriptor table in unusual ways.
func (c *Capture) shareNoTables() []error {
	var refusals []error
	compare := func(a, b int) int {
		order, err := kernel.CompareTables(a, b)
		if err != nil { // one has just ended: it shares nothing
			return cmp.Compare(a, b)
		}
		return order
	}
	tables := slices.Clone(c.pids)
	slices.SortFunc(tables, compare)
	for i := range tables {
		if i > 0 && compare(tables[i-1], tables[i]) == 0 {
			refusals = append(refusals, refuse.Errorf("pids %d and %d share one descriptor table (clone with CLONE_FILES), which kup cannot checkpoint; stop the application", tables[i-1], tables[i]))
		}
	}
	for _, pid := range c.pids {
		threads, err := procfs.Threads(pid)
		if err != nil {
			continue
		}
		for _, tid := range threads {
			order, err := kernel.CompareTables(pid, tid)
			if err == nil && order != 0 && hasTable(pid) && hasTable(tid) {
				refusals = append(refusals, refuse.Errorf("pid %d: its thread %d has a descriptor table of its own (unshare with CLONE_FILES), which kup cannot checkpoint; stop the application", pid, tid))
				break
			}
		}
	}
	return refusals
}

// hasTable tells a living task from one that has exited and given its descriptor table back.
func hasTable(tid int) bool {
	stat, err := procfs.ReadStat(tid)
	return err == nil && stat.State != 'Z' && stat.State != 'X'
}
