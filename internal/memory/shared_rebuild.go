package memory

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/parallel"
)

// ErrSegmentTaken says that a System V segment's key or id belongs to somebody else now.
var ErrSegmentTaken = errors.New("System V shared memory segment is taken")

// CreateShared makes all shared memories with their contents and fills r.Shared.
func (r *Rebuild) CreateShared(moved Moved) error {
	r.Shared = map[int]int{}
	for i := range r.State.Memories {
		m := &r.State.Memories[i]
		file, err := r.createShared(m)
		if err == nil {
			err = r.fillShared(m, file, moved)
		}
		if err == nil {
			err = verify(&m.FOAM, sharedPages(m, file))
		}
		if err == nil && m.Kind == image.SharedMemfd && m.Seals != 0 {
			err = sealMemfd(m, file)
		}
		if err != nil {
			return fmt.Errorf("shared memory %d (%s %s): %w", m.ID, m.Kind, m.Name, err)
		}
		r.files = append(r.files, file)
		r.Shared[m.ID] = int(file.Fd())
	}
	return nil
}

// Undo removes the System V segments that were made for processes that will not exist.
func (r *Rebuild) Undo() {
	for _, id := range r.made {
		kernel.ShmRemove(id)
	}
}

// Close lets go of kup's descriptors of shared memories.
func (r *Rebuild) Close() {
	for _, f := range r.files {
		f.Close()
	}
	r.files, r.Shared = nil, nil
}

// createShared makes an empty object of the right size.
func (r *Rebuild) createShared(m *image.SharedMem) (*os.File, error) {
	switch m.Kind {
	case image.SharedMemfd:
		return createMemfd(m)
	case image.SharedSysV:
		return r.createSegment(m)
	}
	flags := kernel.MapShared
	if m.Huge != 0 {
		flags |= int(hugeFlags(m.Huge))
	}
	mem, err := kernel.MapAnon(int(m.Size), kernel.ProtRead|kernel.ProtWrite, flags|kernel.MapNoReserve)
	if err != nil {
		return nil, err
	}
	defer kernel.Unmap(mem)
	return openMapping(kernel.AddressOf(mem), uint64(len(mem)))
}

// openMapping opens the object behind a shared mapping of our own.
func openMapping(at, size uint64) (*os.File, error) {
	return os.OpenFile(fmt.Sprintf("/proc/self/map_files/%x-%x", at, at+(size+kernel.PageSize-1)&^(kernel.PageSize-1)), os.O_RDWR, 0)
}

func createMemfd(m *image.SharedMem) (*os.File, error) {
	flags := kernel.MfdAllowSealing
	if m.Huge != 0 {
		flags |= kernel.MfdHugeTLB | int(hugeFlags(m.Huge)&^kernel.MapHugeTLB)
	}
	fd, err := kernel.MemfdCreate(m.Name, flags)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), m.Name)
	if err := file.Truncate(int64(m.Size)); err != nil {
		return nil, err
	}
	if err := file.Chown(int(m.UID), int(m.GID)); err != nil {
		return nil, err
	}
	return file, kernel.ChangeMode(fd, m.Mode)
}

func sealMemfd(m *image.SharedMem, file *os.File) error {
	return kernel.AddSeals(int(file.Fd()), m.Seals)
}

// createSegment makes a System V segment with its old id, or takes the one that has outlived its users.
func (r *Rebuild) createSegment(m *image.SharedMem) (*os.File, error) {
	st, err := kernel.ShmGetStat(m.SysV.ID)
	switch {
	case err == nil && (st.Key != m.SysV.Key || st.Size != m.Size || st.Attached != 0):
		return nil, fmt.Errorf("id %d exists with key %#x and %d users: %w; remove it with ipcrm -m %d", m.SysV.ID, uint32(st.Key), st.Attached, ErrSegmentTaken, m.SysV.ID)
	case err != nil:
		if err := newSegment(m); err != nil {
			return nil, err
		}
		r.made = append(r.made, m.SysV.ID)
	}
	at, err := kernel.ShmAttach(m.SysV.ID)
	if err != nil {
		return nil, err
	}
	defer kernel.ShmDetach(at)
	file, err := openMapping(uint64(at), m.Size)
	if err != nil {
		return nil, err
	}
	if st, err = kernel.ShmGetStat(m.SysV.ID); err != nil {
		return nil, err
	}
	st.Mode, st.UID, st.GID = m.SysV.Mode, m.SysV.UID, m.SysV.GID
	if err := kernel.ShmSet(m.SysV.ID, &st); err != nil {
		return nil, err
	}
	return file, nil
}

func newSegment(m *image.SharedMem) error {
	// The next segment gets this id, if it is free (Documentation/admin-guide/sysctl/kernel.rst, shm_next_id).
	if err := os.WriteFile("/proc/sys/kernel/shm_next_id", []byte(strconv.Itoa(m.SysV.ID)), 0); err != nil {
		return err
	}
	flags := kernel.IPCCreat | kernel.IPCExcl | int(m.SysV.Mode)
	if m.Huge != 0 {
		flags |= 0o4000 | int(hugeFlags(m.Huge)&^kernel.MapHugeTLB) // SHM_HUGETLB
	}
	id, err := kernel.ShmGet(m.SysV.Key, m.Size, flags)
	if err != nil {
		return fmt.Errorf("key %#x: %w", uint32(m.SysV.Key), err)
	}
	if id != m.SysV.ID {
		kernel.ShmRemove(id)
		return fmt.Errorf("id %d: %w", m.SysV.ID, ErrSegmentTaken)
	}
	return nil
}

// RemoveSegments marks those segments for removal that were so marked at the checkpoint. It is called when all processes have
// attached them.
func (r *Rebuild) RemoveSegments() error {
	for i := range r.State.Memories {
		if m := &r.State.Memories[i]; m.SysV != nil && m.SysV.Removed {
			if err := kernel.ShmRemove(m.SysV.ID); err != nil {
				return fmt.Errorf("remove System V segment %d: %w", m.SysV.ID, err)
			}
		}
	}
	return nil
}

func (r *Rebuild) fillShared(m *image.SharedMem, to *os.File, moved Moved) error {
	if len(m.FOAM.Extents) == 0 {
		return nil
	}
	from, err := foam.Open(r.Image.Path(m.FOAM.Name), m.FOAM)
	if err != nil {
		return err
	}
	defer from.Close()
	return parallel.Each(from.Runs(m.FOAM.Extents, chunk), func(e image.Extent) error {
		mem, err := from.Map(e)
		if err != nil {
			return err
		}
		defer from.Unmap(mem)
		if m.Huge != 0 {
			into, whole, err := mapHugeTLB(to, m, e, true)
			if err != nil {
				return err
			}
			defer kernel.Unmap(whole)
			copy(into, mem)
		} else if _, err := to.WriteAt(mem[:min(uint64(len(mem)), m.Size-e.Start)], int64(e.Start)); err != nil {
			return err
		}
		return moved(int64(len(mem)))
	})
}
