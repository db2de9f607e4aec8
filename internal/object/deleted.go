package object

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/refuse"
)

// A file that was deleted while open (or never had a name: O_TMPFILE) lives as long as its last descriptor. Its contents go
// into the image directory, with holes left out, once however many descriptions there are of it.

func checkDeleted(d *Descriptor) error {
	if d.flags()&kernel.OPath != 0 {
		return refuse.Errorf("%s is %s, held with O_PATH, which kup cannot make again; close it or stop the application", d, d.Link)
	}
	if d.fileType() != kernel.ModeRegular {
		return refuse.Errorf("%s is the deleted directory %s, which kup cannot make again; close it or stop the application", d, d.Link)
	}
	return nil
}

// saveDeleted copies a deleted file into the image directory and names the copy.
func (c *Capture) saveDeleted(d *Descriptor, file *image.Regular) error {
	file.Content = fmt.Sprintf("deleted-%d-%d", d.Stat.Dev, d.Stat.Ino)
	to, err := os.OpenFile(filepath.Join(c.Dir, file.Content), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil // saved for another description
	}
	if err != nil {
		return fmt.Errorf("%s: contents of the deleted file: %w", d, err)
	}
	fd, err := reopen(d.File, kernel.ORdOnly) // it may be open for writing only, and its offset must stay
	if err == nil {
		from := os.NewFile(uintptr(fd), d.Link)
		err = errors.Join(copySparse(to, from, d.Stat.Size), from.Close())
	}
	if err := errors.Join(err, to.Close()); err != nil {
		return fmt.Errorf("%s: contents of the deleted file %s: %w", d, d.Link, err)
	}
	return nil
}

// copySparse copies the data of size bytes, and makes holes where there are holes.
func copySparse(to, from *os.File, size int64) error {
	for at := int64(0); at < size; {
		start, err := kernel.SeekData(from, at, size)
		if err != nil {
			return err
		}
		if start >= size {
			break
		}
		end, err := kernel.SeekHole(from, start)
		if err != nil {
			return err
		}
		end = min(end, size)
		if _, err := io.Copy(io.NewOffsetWriter(to, start), io.NewSectionReader(from, start, end-start)); err != nil {
			return err
		}
		at = end
	}
	return to.Truncate(size)
}

// openDeleted makes a deleted file again, or another description of one that was made already.
func (r *Rebuild) openDeleted(f *image.OpenFile) (int, error) {
	file := f.Regular
	inode, made := r.deleted[file.Content]
	if !made {
		var err error
		if inode, err = r.makeDeleted(file); err != nil {
			return -1, err
		}
		r.deleted[file.Content] = inode
		r.keep(inode)
	}
	fd, err := reopen(inode, int(f.Flags)&openFlags)
	if err != nil {
		return -1, fmt.Errorf("deleted file %s: %w", file.Path, err)
	}
	return fd, seekTo(fd, f)
}

// makeDeleted makes a file without a name, in the directory where the deleted one was, or the nearest above it that there is.
func (r *Rebuild) makeDeleted(file *image.Regular) (int, error) {
	dir := filepath.Dir(file.Path)
	for {
		if s, err := os.Stat(dir); err == nil && s.IsDir() || dir == "/" {
			break
		}
		dir = filepath.Dir(dir)
	}
	to, err := createNameless(dir)
	if err != nil {
		return -1, fmt.Errorf("deleted file %s: %w", file.Path, err)
	}
	err = r.fillDeleted(to, file)
	if err != nil {
		kernel.Close(to)
		return -1, fmt.Errorf("deleted file %s: %w", file.Path, err)
	}
	return to, nil
}

func (r *Rebuild) fillDeleted(to int, file *image.Regular) error {
	from, err := os.Open(filepath.Join(r.Dir, file.Content))
	if err != nil {
		return err
	}
	defer from.Close()
	again, err := reopen(to, kernel.OWrOnly)
	if err != nil {
		return err
	}
	content := os.NewFile(uintptr(again), file.Path)
	defer content.Close()
	if err := copySparse(content, from, file.Size); err != nil {
		return err
	}
	if err := kernel.ChangeOwner(to, file.UID, file.GID); err != nil {
		return err
	}
	if err := kernel.ChangeMode(to, file.Mode); err != nil { // after the owner: chown drops set-user-ID bits
		return err
	}
	return kernel.SetModified(to, file.Mtime)
}

// createNameless makes an empty file without a name. File systems without O_TMPFILE get one with a name for a moment.
func createNameless(dir string) (int, error) {
	fd, err := kernel.Open(dir, kernel.OTmpFile|kernel.ORdWr, 0o600)
	if err == nil {
		return fd, nil
	}
	f, err := os.CreateTemp(dir, ".kup-deleted-*")
	if err != nil {
		return -1, err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return -1, err
	}
	return reopen(int(f.Fd()), kernel.ORdWr)
}
