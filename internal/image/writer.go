package image

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/kup-project/kup/internal/kernel"
)

// Writer makes an image directory. Until Commit has returned there is nothing in it that Open would accept.
type Writer struct {
	dir     string
	made    bool     // the directory was not there before
	partial *os.File // manifest.partial, locked; nil after Commit or Abort

	// reach is called at each named step, in the order of the code. Tests pull the plug there.
	reach func(step string)
}

// NewWriter begins an image in dir, whose parent must exist. The directory must not exist, or be empty, or hold what an interrupted
// checkpoint has left, which is removed: else the error matches ErrExists; ErrBusy if another process is writing there.
func NewWriter(dir string) (*Writer, error) {
	return newWriter(dir, func(string) {})
}

func newWriter(dir string, reach func(string)) (*Writer, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	w := &Writer{dir: dir, reach: reach}
	switch err := os.Mkdir(dir, 0o700); {
	case err == nil:
		w.made = true
	case !errors.Is(err, fs.ErrExist):
		return nil, fmt.Errorf("image directory: %w", err)
	default:
		if err := vacate(dir); err != nil {
			return nil, err
		}
	}
	reach("directory made")
	if err := w.begin(); err != nil {
		if w.made {
			err = errors.Join(err, os.Remove(dir))
		}
		return nil, err
	}
	reach("begun")
	return w, nil
}

// begin marks the directory as one in which an image is being written.
func (w *Writer) begin() (err error) {
	// The process's umask may have taken away more, and an empty directory that was there may be open to others.
	if err := os.Chmod(w.dir, 0o700); err != nil {
		return fmt.Errorf("image directory: %w", err)
	}
	w.partial, err = claim(w.dir)
	return err
}

// claim creates manifest.partial in dir and locks it.
func claim(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, partialName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("image directory: %w", err)
	}
	if err := kernel.LockFile(f, false); err != nil {
		f.Close()
		if errors.Is(err, kernel.ErrLocked) {
			err = fmt.Errorf("%s: another process is writing an image there; wait for it or end it: %w", dir, ErrBusy)
		}
		return nil, err
	}
	return f, nil
}

// vacate empties a directory of what an interrupted checkpoint has left in it.
func vacate(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("image directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("image directory: %w", err)
	}
	if err := checkOwner(dir, info, 0); err != nil {
		return err
	}
	if len(entries) == 0 {
		return nil
	}
	if exists(filepath.Join(dir, manifestName)) {
		return fmt.Errorf("%s: there is an image already; remove it with `kup rm` or choose another directory: %w", dir, ErrExists)
	}
	if !exists(filepath.Join(dir, partialName)) {
		return fmt.Errorf("%s: the directory is not empty, and what is there is no image; choose another one: %w", dir, ErrExists)
	}
	return wipe(dir, func(string) {})
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Dir is the image's directory, absolute.
func (w *Writer) Dir() string { return w.dir }

// Path returns where contents of that name belong. The file is to be created there, mode 0600.
func (w *Writer) Path(name string) string { return filepath.Join(w.dir, name) }

// Create creates a file for contents of that name.
func (w *Writer) Create(name string) (*os.File, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return os.OpenFile(w.Path(name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// Commit writes the state and then the manifest, and returns when all of the image is durable. All contents must have been
// written. Tool is the version of this program. After an error the caller calls Abort.
func (w *Writer) Commit(st *State, tool string) error {
	if w.partial == nil {
		return fmt.Errorf("%s: the image was committed or abandoned before", w.dir)
	}
	if err := Validate(st); err != nil {
		return fmt.Errorf("the captured state is inconsistent, which is a bug in kup: %w", err)
	}
	state, err := encodeState(st)
	if err != nil {
		return err
	}
	w.reach("state encoded")
	if err := writeFile(w.Path(stateName), state); err != nil {
		return err
	}
	w.reach("state written")
	m := &Manifest{
		Tool:    tool,
		Created: time.Now().UTC().Truncate(time.Second),
		Arch:    Arch,
		Kernel:  st.Host.Kernel,
		XCR0:    st.Host.XCR0,
		VDSO:    hex.EncodeToString(st.Host.VDSO.Hash),
		Files:   []Entry{{Name: stateName, Kind: EntryState, Size: int64(len(state)), Hash: hashHex(state)}},
	}
	if err := w.listContents(m, st); err != nil {
		return err
	}
	w.reach("contents durable")
	if err := publish(w.dir, w.partial, m, w.reach); err != nil {
		return err
	}
	// The directory's own entry.
	if err := syncDir(filepath.Dir(w.dir)); err != nil {
		return err
	}
	w.reach("committed")
	w.partial.Close()
	w.partial = nil
	return nil
}

// listContents enters the contents into the manifest and makes them durable.
func (w *Writer) listContents(m *Manifest, st *State) error {
	kinds, err := contents(st)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return fmt.Errorf("image directory: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		if name == partialName || name == stateName {
			continue
		}
		kind, ok := kinds[name]
		if !ok {
			return fmt.Errorf("%s: nothing in the state refers to this file of the image, which is a bug in kup", w.Path(name))
		}
		size, err := finish(w.Path(name))
		if err != nil {
			return err
		}
		m.Files = append(m.Files, Entry{Name: name, Kind: kind, Size: size})
		w.reach("durable " + name)
	}
	return checkContents(m, st)
}

// finish makes a file of the image durable and private, and returns its size.
func finish(path string) (int64, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := f.Chmod(0o600); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// publish writes the manifest to its claimed partial file and gives it its name: from then on there is an image.
func publish(dir string, partial *os.File, m *Manifest, reach func(string)) error {
	data, err := m.encode()
	if err != nil {
		return err
	}
	if err := partial.Truncate(0); err != nil {
		return err
	}
	half := len(data) / 2
	if _, err := partial.WriteAt(data[:half], 0); err != nil {
		return err
	}
	reach("manifest half written")
	if _, err := partial.WriteAt(data[half:], int64(half)); err != nil {
		return err
	}
	reach("manifest written")
	if err := partial.Sync(); err != nil {
		return err
	}
	// All other names must be durable before this one is.
	if err := syncDir(dir); err != nil {
		return err
	}
	reach("manifest durable")
	if err := os.Rename(filepath.Join(dir, partialName), filepath.Join(dir, manifestName)); err != nil {
		return err
	}
	reach("manifest in place")
	return syncDir(dir)
}

// Seal adds hashes of all contents to the committed image, see Seal.
func (w *Writer) Seal(progress func(done, total int64)) error {
	if w.partial != nil {
		return fmt.Errorf("%s: the image is not committed", w.dir)
	}
	return seal(w.dir, progress, w.reach)
}

// Abort removes everything that was written, and the directory if NewWriter made it. After Commit it does nothing.
func (w *Writer) Abort() error {
	if w.partial == nil {
		return nil
	}
	err := erase(w.dir, w.reach)
	w.partial.Close()
	w.partial = nil
	if w.made && err == nil {
		err = os.Remove(w.dir)
	}
	return err
}

// Remove deletes the image in dir, complete or not, and the directory. At no moment does it leave something restorable with parts
// missing. ErrNotImage if there is neither manifest nor a trace of one, ErrBusy if it is being written.
func Remove(dir string) error { return remove(dir, func(string) {}) }

func remove(dir string, reach func(step string)) error {
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return reject(ErrNotImage, "%s: there is no image directory", dir)
	}
	if err := checkOwner(dir, info, 0); err != nil {
		return err
	}
	if !exists(filepath.Join(dir, manifestName)) && !exists(filepath.Join(dir, partialName)) {
		return reject(ErrNotImage, "%s: the directory has no manifest and is no image; nothing was removed", dir)
	}
	if err := wipe(dir, reach); err != nil {
		return err
	}
	return os.Remove(dir)
}

// wipe empties an image directory that no other process is writing to.
func wipe(dir string, reach func(step string)) error {
	f, err := claim(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	reach("claimed for removal")
	return erase(dir, reach)
}

// erase deletes all files in an image directory: the manifest first, so that there is no image any more; the mark of an incomplete
// one last, so that the rest can be recognised and erased later.
func erase(dir string, reach func(step string)) error {
	if err := os.Remove(filepath.Join(dir, manifestName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	reach("manifest removed")
	if err := syncDir(dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == partialName {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
		reach("removed " + e.Name())
	}
	err = os.Remove(filepath.Join(dir, partialName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	reach("emptied")
	return nil
}

// writeFile writes a new file durably.
func writeFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
