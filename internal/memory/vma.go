package memory

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/kup-project/kup/internal/foam"
	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/pageserver"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
)

// Check refuses address spaces with mappings that cannot be restored. The process may be running.
func Check(pid int) error {
	_, err := describe(pid, false)
	return err
}

// describe lists the mappings of a process. VMAs of shared memory do not have their Object yet: see Capture. If kup itself watches
// the process, write protection by a userfaultfd is no reason to refuse it.
func describe(pid int, watched bool) ([]described, error) {
	maps, err := procfs.ReadSMaps(pid)
	if err != nil {
		return nil, fmt.Errorf("mappings of pid %d: %w", pid, err)
	}
	all := make([]described, 0, len(maps))
	for i := range maps {
		m := &maps[i]
		if watched {
			m.Flags = slices.DeleteFunc(m.Flags, func(flag string) bool { return flag == "uw" })
		}
		v, err := classify(pid, m)
		if err != nil {
			return nil, err
		}
		all = append(all, described{v, m.Mapping, m.InOthers == 0})
	}
	return all, nil
}

type described struct {
	image.VMA
	mapping procfs.Mapping
	alone   bool // no page of it is in another page table
}

// Survey describes the mappings of a running process ahead of its freeze, in which reading smaps would cost 7 ms per GB. The freeze
// only compares where the mappings are. What a process does to a mapping in between without moving it (madvise, mlock) is missed:
// call it just before.
func (c *Capture) Survey(pid int) error {
	all, err := describe(pid, c.Precopies[pid] != nil)
	if err != nil {
		return err
	}
	known := make(map[procfs.Mapping]image.VMA, len(all))
	var alone foam.Extents
	for _, d := range all {
		known[d.mapping] = d.VMA
		if d.alone {
			alone = append(alone, image.Extent{Start: d.Start, End: d.End})
		}
	}
	if c.surveyed == nil {
		c.surveyed, c.alone = map[int]map[procfs.Mapping]image.VMA{}, map[int]foam.Extents{}
	}
	c.surveyed[pid], c.alone[pid] = known, foam.Merged(alone...)
	return nil
}

// frozenMappings lists the mappings of a frozen process, as surveyed if they all are where they were. Of the area of an injection, [skip,
// skip+n), it says whether it was locked into memory on creation.
func (c *Capture) frozenMappings(pid int, skip, n uint64) (all []described, lockFuture bool, err error) {
	status, err := procfs.ReadStatus(pid)
	if err != nil {
		return nil, false, err
	}
	if status.VMLocked == 0 {
		if all, err = c.asSurveyed(pid, skip, n); all != nil || err != nil {
			return all, false, err
		}
	}
	described, err := describe(pid, c.Precopies[pid] != nil)
	for _, d := range described {
		if d.Start >= skip && d.End <= skip+n {
			lockFuture = hasFlag(d.VMA, "lo")
			continue
		}
		all = append(all, d)
	}
	return all, lockFuture, err
}

// asSurveyed returns nil if a mapping is not known.
func (c *Capture) asSurveyed(pid int, skip, n uint64) ([]described, error) {
	known := c.surveyed[pid]
	if known == nil {
		return nil, nil
	}
	maps, err := procfs.ReadMaps(pid)
	if err != nil {
		return nil, err
	}
	var all []described
	for _, m := range maps {
		if m.Start >= skip && m.End <= skip+n {
			continue
		}
		v, ok := known[m]
		if !ok {
			return nil, nil
		}
		all = append(all, described{VMA: v, mapping: m})
	}
	return all, nil
}

func classify(pid int, m *procfs.SMapping) (image.VMA, error) {
	v := image.VMA{Start: m.Start, End: m.End, Shared: m.Shared, Offset: m.Offset, Name: m.Path, PKey: m.PKey,
		Page: m.PageSize, Flags: m.Flags, OnFault: lockedOnFault(m, showsOnFault)}
	for bit, set := range map[uint32]bool{kernel.ProtRead: m.Read, kernel.ProtWrite: m.Write, kernel.ProtExec: m.Exec} {
		if set {
			v.Prot |= bit
		}
	}
	kind, err := kindOf(pid, m, &v)
	v.Kind = kind
	if err == nil {
		err = checkFlags(pid, m, kind)
	}
	return v, err
}

// lockedOnFault tells whether the pages of a locked mapping come, and are locked, when they are touched (MLOCK_ONFAULT). Kernels that do not say so show it by pages that are
// missing: what was locked otherwise has all.
func lockedOnFault(m *procfs.SMapping, says func() bool) bool {
	if m.Has("lf") {
		return true
	}
	missing := m.Read && m.PageSize == kernel.PageSize && m.Rss+m.Swap < m.End-m.Start
	return m.Has("lo") && missing && !says()
}

// showsOnFault tells whether this kernel says in VmFlags that a mapping is locked on fault.
var showsOnFault = sync.OnceValue(func() bool {
	mem, err := kernel.MapAnon(kernel.PageSize, kernel.ProtRead, kernel.MapPrivate)
	if err != nil {
		return false
	}
	defer kernel.Unmap(mem)
	if kernel.LockOnFault(mem) != nil {
		return false
	}
	maps, err := procfs.ReadSMaps(os.Getpid())
	at := kernel.AddressOf(mem)
	return err == nil && slices.ContainsFunc(maps, func(m procfs.SMapping) bool { return m.Start <= at && at < m.End && m.Has("lf") })
})

func kindOf(pid int, m *procfs.SMapping, v *image.VMA) (image.VMAKind, error) {
	switch {
	case m.Path == "[vdso]":
		return image.VMAVDSO, nil
	case strings.HasPrefix(m.Path, "[vvar"):
		return image.VMAVVar, nil
	case m.Path == "[vsyscall]":
		return image.VMAVsyscall, nil
	case m.Path == "[uprobes]":
		return "", mappingError(pid, m, "uprobes are attached to the process: remove them (bpftrace, perf probe)")
	case m.Has("dp"):
		return image.VMADroppable, nil
	case m.Path == "/anon_hugepage" && !m.Shared:
		return image.VMAHugeTLB, nil
	case m.Inode == 0 && !m.Shared:
		return image.VMAAnon, nil
	case isSharedMemory(m):
		return image.VMAShared, nil
	}
	return fileKind(pid, m, v)
}

// isSharedMemory tells tmpfs and hugetlbfs objects that have no name in any file system.
func isSharedMemory(m *procfs.SMapping) bool {
	if !m.Deleted && !strings.HasPrefix(m.Path, "[anon_shmem:") {
		return false
	}
	return m.Path == "/dev/zero" || m.Path == "/anon_hugepage" || strings.HasPrefix(m.Path, "/memfd:") ||
		strings.HasPrefix(m.Path, "/SYSV") || strings.HasPrefix(m.Path, "[anon_shmem:")
}

func fileKind(pid int, m *procfs.SMapping, v *image.VMA) (image.VMAKind, error) {
	if m.Deleted {
		return "", mappingError(pid, m, "the file has been deleted or replaced since it was mapped; restart the application to pick up the new one")
	}
	info, err := os.Stat(mapFilePath(pid, &m.Mapping))
	if errors.Is(err, fs.ErrNotExist) {
		return "", mappingError(pid, m, "no file stands behind the mapping")
	}
	if err != nil {
		return "", fmt.Errorf("pid %d: mapping %s: %w", pid, m, err)
	}
	switch {
	case info.Mode().IsRegular():
		byPath, err := os.Stat(m.Path)
		if err != nil || !os.SameFile(info, byPath) {
			return "", mappingError(pid, m, "its path names another file now; restart the application to pick up the new one")
		}
		v.File = image.MapFile{Path: m.Path, Size: info.Size(), Mtime: info.ModTime().UnixNano(), Write: m.Shared && m.Has("mw")}
		return image.VMAFile, nil
	case info.Mode()&fs.ModeCharDevice != 0 && m.Path == "/dev/zero" && !m.Shared:
		return image.VMADevice, nil
	}
	return "", mappingError(pid, m, fmt.Sprintf("a mapping of a device or special file (%v) cannot be checkpointed; stop the application, or the part of it that uses the device", info.Mode().Type()))
}

// checkFlags refuses by VmFlags, see Documentation/filesystems/proc.rst.
func checkFlags(pid int, m *procfs.SMapping, kind image.VMAKind) error {
	special := kind == image.VMAVDSO || kind == image.VMAVVar || kind == image.VMAVsyscall
	switch {
	case !special && (m.Has("io") || m.Has("pf")):
		return mappingError(pid, m, "device memory cannot be checkpointed; stop the application, or the part of it that uses the device")
	case m.Has("um") && filling(pid) != nil:
		return refuse.Errorf("pid %d is %v; wait", pid, filling(pid))
	case m.Has("um") || m.Has("uw") || m.Has("ui"):
		return mappingError(pid, m, "it is registered with a userfaultfd of the application's own, which cannot be checkpointed")
	case m.Has("ss"):
		return mappingError(pid, m, "shadow stacks cannot be checkpointed; start the application with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off")
	case m.Has("sl"):
		return mappingError(pid, m, "the mapping is sealed (mseal), so it could not be put back in a new process")
	case m.Path == "[shadow stack]" || kind == image.VMAAnon && strings.HasPrefix(m.Path, "[") && !knownName(m.Path):
		return mappingError(pid, m, "kup does not know this kind of mapping")
	}
	return nil
}

// filling returns the page server that brings the memory of a process back, if there is one.
func filling(pid int) *pageserver.Filling {
	f, err := pageserver.Find(pid)
	if err != nil {
		return nil // another reason is given then
	}
	return f
}

func knownName(name string) bool {
	return name == "[heap]" || name == "[stack]" || strings.HasPrefix(name, "[stack:") || strings.HasPrefix(name, "[anon:")
}

func mappingError(pid int, m *procfs.SMapping, why string) error {
	what := m.Path
	if what == "" {
		what = "anonymous memory"
	}
	comm := ""
	if s, err := procfs.ReadStat(pid); err == nil {
		comm = " (" + s.Comm + ")"
	}
	return refuse.Errorf("pid %d%s: mapping %x-%x (%s): %s", pid, comm, m.Start, m.End, what, why)
}

// mapFilePath names the file behind a mapping, whatever became of its path.
func mapFilePath(pid int, m *procfs.Mapping) string {
	return procfs.Path(pid, "map_files") + fmt.Sprintf("/%x-%x", m.Start, m.End)
}
