package object

import (
	"fmt"
	"sync"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/tracee"
)

// Rebuild makes the open file descriptions of an image again: Create makes them in kup's own descriptor table, Install gives each
// process its table, Connect and, when all threads exist, SetOwners do the rest, and Close gives
// kup's copies up.
type Rebuild struct {
	// State is what to rebuild.
	State *image.State
	// Dir is the image directory.
	Dir string
	// SharedMemory has kup's descriptor for each SharedMem.ID.
	SharedMemory map[int]int

	created bool // TCP connections are made

	filling sync.Mutex  // of fds, where several files are made at the same time
	fds     map[int]int // kup's descriptor for each OpenFile.ID
	extra   []int       // further descriptors, needed until all is connected
	holders map[int]holding
	pipes   map[int]*builtPipe
	deleted map[string]int  // deleted files by the name of their content
	writers map[string]bool // paths of files that are open for writing
}

// statusFlags are the flags that F_SETFL changes, fs/fcntl.c, SETFL_MASK, without O_ASYNC, which waits for the owner.
const statusFlags = kernel.OAppend | kernel.ONonblock | kernel.ODirect | kernel.ONoATime

// Create makes all open file descriptions, in the order of the registry. After an error, Close.
func (r *Rebuild) Create() error {
	r.fds, r.pipes, r.deleted = map[int]int{}, map[int]*builtPipe{}, map[string]int{}
	r.findHolders()
	for i := range r.State.Files {
		if _, err := handlerFor(r.State.Files[i].Kind); err != nil {
			return err
		}
	}
	return r.each(func(h *Handler, f *image.OpenFile) error {
		if connected(f) {
			if err := r.createConnections(); err != nil {
				return err
			}
		}
		if _, made := r.fds[f.ID]; !made {
			fd, err := h.Rebuild(r, f)
			if err != nil {
				return fmt.Errorf("%s: %w", r.name(f), err)
			}
			r.fds[f.ID] = fd
		}
		if err := r.setFlags(f); err != nil {
			return err
		}
		return r.lock(f)
	})
}

// each calls do for every open file description in the order of the registry.
func (r *Rebuild) each(do func(h *Handler, f *image.OpenFile) error) error {
	for _, h := range handlers {
		for i := range r.State.Files {
			f := &r.State.Files[i]
			if f.Kind != h.Kind {
				continue
			}
			if err := do(h, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// setFlags gives a description its status flags, and makes sure that it was opened as it was.
func (r *Rebuild) setFlags(f *image.OpenFile) error {
	fd := r.fds[f.ID]
	now, err := kernel.FileFlags(fd)
	if err != nil {
		return fmt.Errorf("%s: F_GETFL: %w", r.name(f), err)
	}
	const fixed = kernel.OAccMode | kernel.OPath
	if now&fixed != f.Flags&fixed {
		return fmt.Errorf("%s: was opened with flags %#o, but should have %#o", r.name(f), now, f.Flags)
	}
	if now&statusFlags == f.Flags&statusFlags {
		return nil
	}
	if err := kernel.SetFileFlags(fd, now&^statusFlags|f.Flags&statusFlags); err != nil {
		return fmt.Errorf("%s: F_SETFL %#o: %w", r.name(f), f.Flags&statusFlags, err)
	}
	return nil
}

// put hands out a description that was made together with another one.
func (r *Rebuild) put(id, fd int) { r.fds[id] = fd }

// keep remembers a descriptor that is needed until all is connected.
func (r *Rebuild) keep(fd int) { r.extra = append(r.extra, fd) }

// name says whose file it is, for messages.
func (r *Rebuild) name(f *image.OpenFile) string {
	if h, ok := r.holders[f.ID]; ok {
		return fmt.Sprintf("pid %d (%s): fd %d (%s)", h.process.PID, h.process.Comm, h.num, f.Kind)
	}
	return fmt.Sprintf("open file %d (%s)", f.ID, f.Kind)
}

// holding is a process's descriptor for an open file description.
type holding struct {
	process *image.Process
	num     int
}

// findHolders finds the first holder of each open file description.
func (r *Rebuild) findHolders() {
	r.holders = map[int]holding{}
	for i := range r.State.Processes {
		p := &r.State.Processes[i]
		for _, fd := range p.FDs {
			if _, found := r.holders[fd.File]; !found {
				r.holders[fd.File] = holding{p, fd.Num}
			}
		}
	}
}

// Connect does what needs all descriptors in place, in the order of the registry, then the processes' record locks.
func (r *Rebuild) Connect(seeds map[int]*tracee.Seed) error {
	err := r.each(func(h *Handler, f *image.OpenFile) error {
		holder, held := r.holders[f.ID]
		if h.Connect == nil || !held {
			return nil
		}
		seed, ok := seeds[holder.process.PID]
		if !ok {
			return fmt.Errorf("%s: its process is not being restored", r.name(f))
		}
		if err := h.Connect(r, f, seed, holder.num); err != nil {
			return fmt.Errorf("%s: %w", r.name(f), err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := range r.State.Processes {
		p := &r.State.Processes[i]
		if len(p.Locks) == 0 {
			continue
		}
		if err := lockRecords(p, seeds[p.PID]); err != nil {
			return err
		}
	}
	r.closeExtra()
	return nil
}

// closeExtra closes what only helped to build, such as ends of pipes that the application has closed: it must not find them open
// when it runs.
func (r *Rebuild) closeExtra() {
	for _, fd := range r.extra {
		kernel.Close(fd)
	}
	r.extra = nil
}

// SetOwners restores who gets signals about files (F_SETOWN, F_SETSIG, O_ASYNC). All threads exist by now: one of them may be
// the owner.
func (r *Rebuild) SetOwners(seeds map[int]*tracee.Seed) error {
	return r.each(func(_ *Handler, f *image.OpenFile) error {
		if f.Owner.PID != 0 || f.Owner.Signal != 0 {
			owner := kernel.FileOwnerSignal{Type: int32(f.Owner.Type), PID: int32(f.Owner.PID), Signal: f.Owner.Signal}
			if err := kernel.SetSignalOwner(r.fds[f.ID], owner); err != nil {
				return fmt.Errorf("%s: signals to pid %d (F_SETOWN): %w", r.name(f), f.Owner.PID, err)
			}
		}
		holder, held := r.holders[f.ID]
		if f.Flags&kernel.OAsync == 0 || !held {
			return nil
		}
		// The kernel notes the number by which O_ASYNC was set, for si_fd; so the process itself does it.
		b := tracee.NewBatch(seeds[holder.process.PID])
		b.Must(fmt.Sprintf("O_ASYNC of fd %d", holder.num), kernel.SysFcntl, holder.num, kernel.FSetFL, f.Flags)
		return b.Run()
	})
}

// Close closes kup's copies, also after a failed Create.
func (r *Rebuild) Close() {
	for _, fd := range r.fds {
		kernel.Close(fd)
	}
	r.closeExtra()
	r.fds = nil
}

// reopen makes a new open file description of what fd stands for.
func reopen(fd int, flags int) (int, error) {
	return kernel.Open(fmt.Sprintf("/proc/self/fd/%d", fd), flags, 0)
}
