package memory

import (
	"fmt"
	"os"
	"strings"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/parallel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
)

// inode identifies a tmpfs object on this machine.
type inode struct{ device, number uint64 }

// sharedSource is where the contents of a shared memory can be read while it is captured.
type sharedSource struct {
	index int // in State.Memories
	file  *os.File
}

// sharedByMapping returns the ID of the shared memory behind a mapping, describing it if it is new.
func (c *Capture) sharedByMapping(pid int, m *procfs.Mapping) (int, error) {
	path := mapFilePath(pid, m)
	f, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return 0, fmt.Errorf("pid %d: shared memory %s at %x-%x: %w", pid, m.Path, m.Start, m.End, err)
	}
	return c.sharedMemory(f, m.Path)
}

// SharedByFD returns the ID of the shared memory behind kup's duplicate of a memfd descriptor.
func (c *Capture) SharedByFD(fd int, link string) (int, error) {
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return 0, err
	}
	return c.sharedMemory(f, strings.TrimSuffix(link, " (deleted)"))
}

// sharedMemory takes f over.
func (c *Capture) sharedMemory(f *os.File, name string) (int, error) {
	st, err := kernel.StatFD(int(f.Fd()))
	if err != nil {
		f.Close()
		return 0, err
	}
	key := inode{st.Dev, st.Ino}
	if known, ok := c.shared[key]; ok {
		f.Close()
		return c.State.Memories[known.index].ID, nil
	}
	m := image.SharedMem{ID: len(c.State.Memories) + 1, Size: uint64(st.Size), Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid}
	m.FOAM = image.FOAM{Name: sharedName(m.ID), Windows: foam.Single(m.Size)}
	if st.Blksize > kernel.PageSize {
		m.Huge = uint64(st.Blksize)
	}
	switch {
	case strings.HasPrefix(name, "/memfd:"):
		m.Kind, m.Name = image.SharedMemfd, strings.TrimPrefix(name, "/memfd:")
		seals, err := kernel.GetSeals(int(f.Fd()))
		if err != nil {
			f.Close()
			return 0, fmt.Errorf("seals of memfd %s: %w", m.Name, err)
		}
		m.Seals = seals
	case strings.HasPrefix(name, "/SYSV"):
		m.Kind = image.SharedSysV
		if m.SysV, err = sysVSegment(int(st.Ino)); err != nil {
			f.Close()
			return 0, err
		}
		m.Mode = m.SysV.Mode & 0o777
	default:
		m.Kind = image.SharedAnon
	}
	if c.shared == nil {
		c.shared = map[inode]*sharedSource{}
	}
	c.shared[key] = &sharedSource{len(c.State.Memories), f}
	c.State.Memories = append(c.State.Memories, m)
	return m.ID, nil
}

func sharedName(id int) string { return fmt.Sprintf("shared-%d.foam", id) }

// sysVSegment describes a segment; its inode number is its id (ipc/shm.c, newseg).
func sysVSegment(id int) (*image.SysVShm, error) {
	st, err := kernel.ShmGetStat(id)
	if err != nil {
		return nil, fmt.Errorf("System V shared memory segment %d: %w", id, err)
	}
	return &image.SysVShm{Key: st.Key, ID: id, Mode: st.Mode & 0o777, CUID: st.CUID, CGID: st.CGID,
		Removed: st.Mode&kernel.ShmDest != 0, UID: st.UID, GID: st.GID}, nil
}

// CheckShared refuses shared memory that processes outside of the application use too. It is called when all processes were
// captured.
func (c *Capture) CheckShared() error {
	attached := map[int]uint64{}
	for _, p := range c.State.Processes {
		for _, v := range p.Memory.VMAs {
			if v.Kind == image.VMAShared {
				attached[v.Object]++
			}
		}
	}
	for _, m := range c.State.Memories {
		if m.SysV == nil {
			continue
		}
		st, err := kernel.ShmGetStat(m.SysV.ID)
		if err != nil {
			return err
		}
		if st.Attached > attached[m.ID] {
			return refuse.Errorf("System V shared memory segment %d (key %#x) is attached %d times, but only %d times by the application: another process uses it (ipcs -mp); checkpoint that together with it or detach it",
				m.SysV.ID, uint32(m.SysV.Key), st.Attached, attached[m.ID])
		}
	}
	return nil
}

// DumpShared copies the contents of all shared memories into their FOAM files. Holes stay holes.
func (c *Capture) DumpShared(moved Moved) error {
	for _, src := range c.shared {
		if err := c.dumpOne(src, moved); err != nil {
			return err
		}
	}
	return nil
}

func (c *Capture) dumpOne(src *sharedSource, moved Moved) error {
	m := &c.State.Memories[src.index]
	to, err := c.newFile(m.FOAM.Name, m.FOAM.Windows)
	if err != nil {
		return err
	}
	if to.InFrames() {
		c.kept = append(c.kept, to)
	} else {
		defer to.Close()
	}
	extents, err := dataExtents(src.file, m)
	if err != nil {
		return fmt.Errorf("shared memory %d: %w", m.ID, err)
	}
	if err := to.Grow(m.FOAM.Extents, extents); err != nil {
		return err
	}
	m.FOAM = to.Describe(extents)
	if err := copyShared(m, src.file, to, moved); err != nil || !c.Fallback {
		return err
	}
	m.Fallback, err = c.sharedFallback(m, src.file, moved)
	return err
}

// copyShared copies the contents of a shared memory into its FOAM.
func copyShared(m *image.SharedMem, from *os.File, to *foam.File, moved Moved) error {
	return parallel.Each(to.Runs(m.FOAM.Extents, chunk), func(e image.Extent) error {
		mem, err := to.Map(e)
		if err != nil {
			return err
		}
		defer to.Unmap(mem)
		if err := readShared(mem, from, m, e); err != nil {
			return fmt.Errorf("shared memory %d: %w", m.ID, err)
		}
		return moved(int64(len(mem)))
	})
}

// readShared reads a part of a shared memory, but for what of its last page is beyond its end.
func readShared(to []byte, f *os.File, m *image.SharedMem, e image.Extent) (err error) {
	if m.Huge == 0 {
		_, err = f.ReadAt(to[:min(uint64(len(to)), m.Size-e.Start)], int64(e.Start))
	} else {
		err = copyMapped(to, f, m, e)
	}
	if err != nil {
		return fmt.Errorf("at %#x: %w", e.Start, err)
	}
	return nil
}

// copyMapped reads hugetlb memory, which is not always readable by read(2), through a mapping.
func copyMapped(to []byte, f *os.File, m *image.SharedMem, e image.Extent) error {
	from, whole, err := mapHugeTLB(f, m, e, false)
	if err != nil {
		return err
	}
	defer kernel.Unmap(whole)
	copy(to, from)
	return nil
}

// mapHugeTLB maps a part of hugetlb memory. That goes by whole pages of it, which the caller unmaps.
func mapHugeTLB(f *os.File, m *image.SharedMem, e image.Extent, write bool) (part, whole []byte, err error) {
	start, end := e.Start&^(m.Huge-1), (e.End+m.Huge-1)&^(m.Huge-1)
	if whole, err = kernel.MapFile(f, int64(start), int(end-start), write); err != nil {
		return nil, nil, err
	}
	return whole[e.Start-start : e.End-start], whole, nil
}

// dataExtents lists the parts of a tmpfs object that are not holes, in whole pages.
func dataExtents(f *os.File, m *image.SharedMem) ([]image.Extent, error) {
	if m.Huge != 0 {
		return foam.Merged(image.Extent{End: m.Size}), nil
	}
	var all foam.Extents
	for at := int64(0); at < int64(m.Size); {
		data, err := kernel.SeekData(f, at, int64(m.Size))
		if err != nil {
			return nil, err
		}
		if data >= int64(m.Size) {
			break
		}
		hole, err := kernel.SeekHole(f, data)
		if err != nil {
			return nil, err
		}
		all = append(all, image.Extent{Start: uint64(data) &^ (kernel.PageSize - 1),
			End: (uint64(hole) + kernel.PageSize - 1) &^ (kernel.PageSize - 1)})
		at = hole
	}
	return foam.Merged(all...), nil
}

// Close lets go of the memories' files, and ends the watch over processes.
func (c *Capture) Close() {
	for _, p := range c.Precopies {
		p.stop()
	}
	c.Precopies = nil
	for _, f := range c.open {
		f.Close()
	}
	c.open = nil
	for _, f := range c.second {
		f.close()
	}
	c.second = nil
	for _, f := range c.kept {
		f.Close()
	}
	c.kept = nil
	for _, src := range c.shared {
		src.file.Close()
	}
}
