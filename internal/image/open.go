package image

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kup-project/kup/internal/kernel"
)

// Image is an image that was found acceptable.
type Image struct {
	Dir      string // absolute
	Manifest *Manifest
	State    *State

	unverified map[string][]byte // the hashes of FOAM files, by name, that ReadPages will compare
}

// Path returns where contents of that name are.
func (i *Image) Path(name string) string { return filepath.Join(i.Dir, name) }

// Sealed says whether the image has hashes of its contents.
func (i *Image) Sealed() bool { return i.Manifest.Sealed() }

// Option changes what Open checks.
type Option func(*checks)

type checks struct {
	contents bool
	later    bool
	progress func(done, total int64)
	xcr0     uint64 // of this processor
	anyCPU   bool
}

// WithContents makes Open compare the contents with the hashes in the seal too, which means reading them all. An image that was
// not sealed has none, and passes. Progress is called with bytes; it may be nil.
func WithContents(progress func(done, total int64)) Option {
	return func(c *checks) { c.contents, c.progress = true, progress }
}

// PagesLater makes WithContents leave out the private memory of processes, for a caller who reads all of it by ReadPages, which then compares it.
func PagesLater() Option { return func(c *checks) { c.later = true } }

// AnyCPU makes Open accept an image whose threads could not run on this processor: to look at it only.
func AnyCPU() Option { return func(c *checks) { c.anyCPU = true } }

// Open reads the image in dir and checks everything but the contents of pages and files. Every reason not to accept it
// matches ErrNotAcceptable.
func Open(dir string, options ...Option) (*Image, error) {
	c := checks{xcr0: kernel.XCR0()}
	for _, o := range options {
		o(&c)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	img, err := load(dir)
	if err != nil {
		return nil, err
	}
	if img.Manifest.Arch != Arch {
		return nil, reject(ErrArch, "image %s: it was made on %s, and this machine is %s", dir, img.Manifest.Arch, Arch)
	}
	if !c.anyCPU {
		if err := checkCPU(img.State, c.xcr0); err != nil {
			return nil, fmt.Errorf("image %s: %w", dir, err)
		}
	}
	if c.contents && img.Sealed() {
		later := map[string]bool{}
		for i := range img.State.Processes {
			later[img.State.Processes[i].Memory.FOAM.Name] = c.later
		}
		if err := img.verifyContents(later, c.progress); err != nil {
			return nil, err
		}
	}
	return img, nil
}

// Verify checks everything about the image in dir: what Open checks, and that all contents are what they were when the image
// was sealed. That it fits this processor is not asked. Progress is called with bytes; it may be nil.
func Verify(dir string, progress func(done, total int64)) error {
	img, err := Open(dir, AnyCPU(), WithContents(progress))
	if err != nil {
		return err
	}
	if !img.Sealed() {
		return reject(ErrNotSealed, "image %s: it is complete and can be restored, but kup was interrupted before it had hashed the contents, "+
			"so they cannot be verified", img.Dir)
	}
	return nil
}

// load reads and checks the metadata of the image in dir.
func load(dir string) (*Image, error) {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, reject(ErrNotImage, "image %s: there is no such directory", dir)
	case err != nil:
		return nil, reject(ErrNotImage, "image %s: %w", dir, err)
	case !info.IsDir():
		return nil, reject(ErrNotImage, "image %s: not a directory, and images are directories", dir)
	}
	if err := checkOwner(dir, info, 0); err != nil {
		return nil, err
	}
	m, err := loadManifest(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range m.Files {
		info, err := checkFile(dir, e.Name)
		if err != nil {
			return nil, err
		}
		if info.Size() != e.Size {
			return nil, damaged(dir, e.Name, "it has %d bytes and had %d when the image was written", info.Size(), e.Size)
		}
	}
	data, err := readHashed(dir, m.entry(stateName))
	if err != nil {
		return nil, err
	}
	st, err := decodeState(data)
	if err != nil {
		return nil, reject(ErrCorrupt, "image %s: %s: %w; it was written by a kup with a bug, or tampered with", dir, stateName, err)
	}
	if err := checkContents(m, st); err != nil {
		return nil, reject(ErrCorrupt, "image %s: %w", dir, err)
	}
	return &Image{Dir: dir, Manifest: m, State: st}, nil
}

// loadManifest reads the manifest, and tells what it means that there is none.
func loadManifest(dir string) (*Manifest, error) {
	if !exists(filepath.Join(dir, manifestName)) {
		if exists(filepath.Join(dir, partialName)) {
			return nil, reject(ErrIncomplete, "image %s: the checkpoint that wrote it was interrupted (or is still running), so it can never be restored; "+
				"remove it with `kup rm` and checkpoint again", dir)
		}
		return nil, reject(ErrNotImage, "image %s: the directory has no manifest, so it is no image", dir)
	}
	if _, err := checkFile(dir, manifestName); err != nil {
		return nil, err
	}
	data, err := readCapped(dir, manifestName)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(data)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", dir, err)
	}
	return m, nil
}

// checkFile returns what Lstat says of a file of the image, and refuses what nobody but root should have been able to change.
func checkFile(dir, name string) (fs.FileInfo, error) {
	path := filepath.Join(dir, name)
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, damaged(dir, name, "it is missing")
	case err != nil:
		return nil, damaged(dir, name, "%w", err)
	case !info.Mode().IsRegular():
		return nil, damaged(dir, name, "it is no regular file")
	}
	return info, checkOwner(path, info, 0o100)
}

// checkOwner refuses a directory or file that others than root and this user own, or may read or write. Forbidden are
// further mode bits: an image's files are not executable.
func checkOwner(path string, info fs.FileInfo, forbidden fs.FileMode) error {
	uid, _ := kernel.FileOwner(info)
	if uid != 0 && int(uid) != os.Geteuid() {
		return reject(ErrOwner, "%s: it belongs to uid %d; an image is the memory of processes, and only one that root wrote is trusted. "+
			"If you know that it is yours: chown -R 0 it", path, uid)
	}
	if info.Mode().Perm()&(0o077|forbidden) != 0 {
		return reject(ErrOwner, "%s: its mode %04o lets others at it; an image's directory has mode 0700 and its files 0600. "+
			"If you know that nobody has changed it: chmod it", path, info.Mode().Perm())
	}
	return nil
}

// readHashed reads a metadata file and compares its hash.
func readHashed(dir string, e *Entry) ([]byte, error) {
	data, err := readCapped(dir, e.Name)
	if err != nil {
		return nil, err
	}
	if hashHex(data) != e.Hash {
		return nil, damaged(dir, e.Name, "its bytes do not fit the hash in the manifest")
	}
	return data, nil
}

func readCapped(dir, name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return nil, damaged(dir, name, "%w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxMetadata+1))
	switch {
	case err != nil:
		return nil, damaged(dir, name, "%w", err)
	case len(data) > maxMetadata:
		return nil, damaged(dir, name, "it is longer than any %s", name)
	}
	return data, nil
}

// damaged returns an error that matches ErrCorrupt about one file of an image.
func damaged(dir, name, format string, args ...any) error {
	return reject(ErrCorrupt, "image %s: %s: %w; the image is damaged and cannot be used", dir, name, fmt.Errorf(format, args...))
}
