package object

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/refuse"
)

// regular handles regular files and directories, and with O_PATH everything that has a path. They are opened again by path. A
// file that was deleted while open is saved whole, see deleted.go.
var regular = &Handler{
	Kind:    image.KindRegular,
	Claims:  claimsRegular,
	Check:   checkRegular,
	Capture: captureRegular,
	Rebuild: rebuildRegular,
}

func claimsRegular(d *Descriptor) bool {
	if !strings.HasPrefix(d.Link, "/") || isMemfd(d) {
		return false
	}
	switch d.fileType() {
	case kernel.ModeRegular, kernel.ModeDirectory:
		return true
	}
	return d.flags()&kernel.OPath != 0
}

// deletedMark is what the kernel appends to the path of a file that has no name any more, fs/d_path.c.
const deletedMark = " (deleted)"

// deleted reports whether a file has lost the name it was opened by. A name may end like the mark; so the mark alone proves nothing.
func (d *Descriptor) deleted() bool {
	if !strings.HasSuffix(d.Link, deletedMark) {
		return false
	}
	named, err := kernel.LstatPath(d.Link)
	return err != nil || !sameFile(&named, &d.Stat)
}

func sameFile(a, b *kernel.Stat) bool { return a.Dev == b.Dev && a.Ino == b.Ino }

func checkRegular(c *Capture, d *Descriptor) error {
	if strings.HasPrefix(d.Link, "(unreachable)") || !c.mounted(d.Info.MountID) {
		return refuse.Errorf("%s is %s on a file system that is not mounted where kup runs, so it could not be opened again; stop the application or run kup in its mount namespace", d, d.Link)
	}
	magic, err := kernel.FileSystem(d.path())
	if err != nil {
		return fmt.Errorf("%s: %s: file system: %w", d, d.Link, err)
	}
	switch magic {
	case kernel.MqueueMagic:
		return refuse.Errorf("%s is the POSIX message queue %s, which kup cannot checkpoint; stop the application", d, d.Link)
	case kernel.ProcMagic, kernel.CgroupMagic, kernel.Cgroup2:
		return checkKernelFile(d)
	}
	if d.deleted() {
		return checkDeleted(d)
	}
	named, err := kernel.LstatPath(d.Link)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !sameFile(&named, &d.Stat) {
		if !d.still() { // renamed or deleted just now
			return fmt.Errorf("%s: %s: %w", d, d.Link, fs.ErrNotExist)
		}
		return refuse.Errorf("%s is %s, but by that path kup finds another file or none: something else is mounted or was put there; it could not be opened again", d, d.Link)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d, err)
	}
	return nil
}

// checkKernelFile refuses files of /proc and of cgroups that are more than something to read.
func checkKernelFile(d *Descriptor) error {
	rest, inProc := strings.CutPrefix(d.Link, "/proc/")
	first, _, _ := strings.Cut(rest, "/")
	if _, err := strconv.Atoi(first); inProc && err == nil {
		// What was read of it by now may be longer or shorter under the next kernel: the application would go on in the middle of a word.
		return refuse.Errorf("%s is %s, which belongs to a process and cannot be opened before that process exists; try again when it is closed", d, d.Link)
	}
	if d.writable() && (strings.HasPrefix(d.Link, "/proc/pressure/") || strings.HasSuffix(d.Link, ".pressure")) {
		return refuse.Errorf("%s is %s, which may hold a trigger for pressure stalls, which kup cannot checkpoint; close it or stop the application", d, d.Link)
	}
	return nil
}

// mounted reports whether kup sees a mount. What is not visible is the kernel's own (unnamed memory) or in another namespace.
func (c *Capture) mounted(id int) bool {
	c.filling.Lock()
	defer c.filling.Unlock()
	if c.mounts == nil {
		c.mounts = map[int]bool{}
		table, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return true // then the comparison by path decides
		}
		for line := range strings.Lines(string(table)) {
			first, _, _ := strings.Cut(line, " ")
			if n, err := strconv.Atoi(first); err == nil {
				c.mounts[n] = true
			}
		}
	}
	return c.mounts[id]
}

func captureRegular(c *Capture, d *Descriptor, f *image.OpenFile) (err error) {
	f.Regular = &image.Regular{
		Path:   d.Link,
		Offset: d.Info.Pos,
		Mode:   d.Stat.Mode,
		UID:    d.Stat.Uid,
		GID:    d.Stat.Gid,
		Size:   d.Stat.Size,
		Mtime:  d.Stat.Mtim.Nano(),
	}
	if f.Regular.Locks, err = recordLocks(d, lockOFD); err != nil {
		return err
	}
	if d.deleted() {
		f.Regular.Path = strings.TrimSuffix(d.Link, deletedMark)
		return c.saveDeleted(d, f.Regular)
	}
	return nil
}

// openFlags are the flags that only open(2) can set, and that remain in F_GETFL.
const openFlags = kernel.OAccMode | kernel.OAppend | kernel.ODSync | kernel.OSync | kernel.ODirect | kernel.ONoATime | kernel.OPath

func rebuildRegular(r *Rebuild, f *image.OpenFile) (int, error) {
	file := f.Regular
	if file.Content != "" {
		return r.openDeleted(f)
	}
	if err := r.acceptable(f); err != nil {
		return -1, err
	}
	flags := int(f.Flags)&(openFlags|kernel.ODirectory|kernel.ONoFollow) | kernel.ONoCTTY
	if flags&kernel.OTmpFile == kernel.OTmpFile {
		flags &^= kernel.OTmpFile
	}
	fd, err := kernel.Open(file.Path, flags, 0)
	if err != nil {
		return -1, err
	}
	return fd, seekTo(fd, f)
}

// seekTo puts the offset back.
func seekTo(fd int, f *image.OpenFile) error {
	if f.Flags&kernel.OPath != 0 || f.Regular.Offset == 0 {
		return nil
	}
	if err := kernel.Seek(fd, f.Regular.Offset); err != nil {
		kernel.Close(fd)
		return fmt.Errorf("%s: seek to %d: %w", f.Regular.Path, f.Regular.Offset, err)
	}
	return nil
}

// acceptable compares a file by its path with what it was.
//
// A file that the application writes may have grown since: a log goes on after the checkpoint, and the image may be restored a
// second time. A file that it only reads must be the same: a shell, for one, goes on reading its script in the middle.
// Inode numbers are not compared: in an initramfs they are new at every boot.
func (r *Rebuild) acceptable(f *image.OpenFile) error {
	file := f.Regular
	now, err := kernel.LstatPath(file.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return refuse.Errorf("the file %s is gone since the checkpoint; put it back", file.Path)
	}
	if err != nil {
		return err
	}
	if now.Mode&kernel.ModeType != file.Mode&kernel.ModeType {
		return refuse.Errorf("%s is another type of file than at the checkpoint (mode %#o, was %#o); put the old one back", file.Path, now.Mode, file.Mode)
	}
	if f.Flags&kernel.OPath != 0 || file.Mode&kernel.ModeType != kernel.ModeRegular || kernelFile(file.Path) {
		return nil
	}
	if now.Size < file.Size {
		return refuse.Errorf("the file %s was truncated or replaced since the checkpoint: it has %d bytes and had %d; put the old one back", file.Path, now.Size, file.Size)
	}
	if r.written(file.Path) || now.Size == file.Size && now.Mtim.Nano() == file.Mtime {
		return nil
	}
	return refuse.Errorf("the file %s, which the application reads, was changed since the checkpoint: size %d, was %d; modified at %d ns, was %d ns; put the old one back",
		file.Path, now.Size, file.Size, now.Mtim.Nano(), file.Mtime)
}

// kernelFile reports whether a path leads to a file whose contents the kernel makes up.
func kernelFile(path string) bool {
	magic, err := kernel.FileSystem(path)
	return err == nil && (magic == kernel.ProcMagic || magic == kernel.SysMagic || magic == kernel.CgroupMagic || magic == kernel.Cgroup2)
}

// written reports whether the application has a file open for writing.
func (r *Rebuild) written(path string) bool {
	if r.writers == nil {
		r.writers = map[string]bool{}
		for i := range r.State.Files {
			f := &r.State.Files[i]
			if f.Regular != nil && f.Flags&kernel.OAccMode != kernel.ORdOnly {
				r.writers[filepath.Clean(f.Regular.Path)] = true
			}
		}
	}
	return r.writers[filepath.Clean(path)]
}
