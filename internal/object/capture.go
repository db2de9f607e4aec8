package object

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/tracee"
)

// Capture is the capture of all descriptors of a set of processes, or, in Check, the attempt.
type Capture struct {
	// State gets Files and Pipes, and each of its Processes (there is one for every pid already) its FDs and Locks.
	State *image.State
	// Dir is the image directory being written: contents of deleted files go there.
	Dir string
	// SharedMemory returns the SharedMem.ID of the memory behind a descriptor of memfd_create.
	SharedMemory func(fd int, link string) (id int, err error)
	// Cleanup returns a batch for a frozen process: its calls are executed by the process when it is thawed, also if kup dies.
	Cleanup func(pid int) *tracee.Batch
	// Hush keeps listening sockets deaf from Take until Cleanup sees to it.
	Hush *Hush

	running     bool // Check: the application is not frozen
	pids        []int
	descriptors []*Descriptor // of all processes; duplicates of one open file description are neighbours
	captured    []captured    // one per open file description
	files       map[*Descriptor]*image.OpenFile
	outside     holders // filled when asked for
	pipes       map[inode]*pipeEnds
	sockets     heldSockets
	network     network

	filling sync.Mutex   // of what follows, which handlers fill when they ask for it while they check
	mounts  map[int]bool // ids of the mounts that kup sees
	unix    *unixView
}

// inode names a file within one kernel.
type inode struct{ dev, ino uint64 }

// captured is an open file description with the first descriptor that stands for it.
type captured struct {
	d       *Descriptor
	file    *image.OpenFile
	handler *Handler
}

// Take takes part in all that frozen processes hold through descriptors. CheckFrozen comes next, or Release.
func (c *Capture) Take(pids []int) error {
	c.pids = pids
	c.files = map[*Descriptor]*image.OpenFile{}
	if err := errors.Join(c.shareNoTables()...); err != nil {
		return err
	}
	for _, pid := range pids {
		table, err := takeTable(pid)
		c.descriptors = append(c.descriptors, table...)
		if err != nil {
			return err
		}
	}
	if err := c.group(); err != nil {
		return err
	}
	return c.Hush.over(c.captured)
}

// Capture fills c.State, which has the frozen processes already, with what was taken. ReleaseSockets is called when they were thawed or are gone.
func (c *Capture) Capture() error {
	defer c.Release()
	if err := c.arm(); err != nil {
		return err
	}
	if err := c.Hush.leave(); err != nil {
		return err
	}
	for i := range c.captured {
		if err := c.describe(&c.captured[i]); err != nil {
			return err
		}
	}
	for _, h := range handlers {
		if h.Settle == nil {
			continue
		}
		if err := h.Settle(c); err != nil {
			return err
		}
	}
	for _, one := range c.captured {
		c.State.Files = append(c.State.Files, *one.file)
	}
	return c.fillTables()
}

// duplicate takes part in one descriptor.
func (d *Descriptor) duplicate() error {
	pidfd, err := kernel.PidfdOpen(d.PID)
	if err != nil {
		return fmt.Errorf("%s: pidfd_open: %w", d, err)
	}
	defer kernel.Close(pidfd)
	return d.duplicateFrom(pidfd)
}

// duplicateFrom is duplicate with a descriptor of the process.
func (d *Descriptor) duplicateFrom(pidfd int) (err error) {
	if d.File, err = kernel.PidfdGetfd(pidfd, d.FD); err != nil {
		d.File = -1
		return fmt.Errorf("%s: pidfd_getfd: %w", d, err)
	}
	return nil
}

func (d *Descriptor) release() {
	if d.File >= 0 {
		kernel.Close(d.File) // a duplicate of a descriptor: nothing is flushed or lost by closing it
		d.File = -1
	}
}

// Release gives up what was taken, but for the sockets that Capture keeps.
func (c *Capture) Release() {
	for _, d := range c.descriptors {
		d.release()
	}
}

// fileOf returns the ID of the open file description of a descriptor.
func (c *Capture) fileOf(d *Descriptor) int { return c.files[d].ID }

// describe fills in one open file description: what all kinds have, and by its handler what its kind has.
func (c *Capture) describe(one *captured) error {
	d, f, h := one.d, one.file, one.handler
	f.Kind, f.Flags = h.Kind, d.flags()
	if f.Flags&kernel.OPath == 0 {
		owner, err := kernel.SignalOwner(d.File)
		if err != nil {
			return fmt.Errorf("%s: F_GETOWN_EX: %w", d, err)
		}
		f.Owner = image.FOwner{Type: int(owner.Type), PID: int(owner.PID), Signal: owner.Signal}
	}
	f.Flock = flockOf(d)
	return h.Capture(c, d, f)
}

// fillTables writes each process's descriptor table and record locks.
func (c *Capture) fillTables() error {
	type heldLock struct {
		pid, file int
		lock      image.RecordLock
	}
	seen := map[heldLock]bool{}
	processes := map[int]*image.Process{}
	for i := range c.State.Processes {
		processes[c.State.Processes[i].PID] = &c.State.Processes[i]
	}
	for _, d := range c.descriptors {
		p, ok := processes[d.PID]
		if !ok {
			return fmt.Errorf("%s belongs to a process that is not in the image", d)
		}
		p.FDs = append(p.FDs, image.FD{Num: d.FD, CloExec: d.Info.Flags&kernel.OCloExec != 0, File: c.fileOf(d)})
		locks, err := recordLocks(d, lockPosix)
		if err != nil {
			return err
		}
		for _, l := range locks {
			if key := (heldLock{d.PID, c.fileOf(d), l}); !seen[key] { // the kernel shows it at every duplicate
				seen[key] = true
				p.Locks = append(p.Locks, image.PosixLock{FD: d.FD, Write: l.Write, Start: l.Start, Len: l.Len})
			}
		}
	}
	for _, p := range processes {
		slices.SortFunc(p.FDs, func(a, b image.FD) int { return cmp.Compare(a.Num, b.Num) })
	}
	return nil
}
