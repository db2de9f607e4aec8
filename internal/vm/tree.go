package vm

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"
)

// tree is a root file system under construction. Names are relative to the root and free of symbolic links, since the
// kernel follows none that comes later in the archive.
type tree struct {
	records map[string]cpio.Record
	sources map[string]string // regular files: the host's path, opened only when it is written
}

func newTree() *tree {
	return &tree{records: map[string]cpio.Record{}, sources: map[string]string{}}
}

// add puts a record in place, below folders that are made as needed. The latest record of a name holds.
func (t *tree) add(r cpio.Record) {
	r.Name = t.resolve(r.Name)
	r.NLink = 1
	if dir := filepath.Dir(r.Name); dir != "." {
		t.addDirectory(dir)
	}
	t.records[r.Name] = r
	delete(t.sources, r.Name)
}

func (t *tree) addDirectory(path string) {
	if path = clean(path); !t.has(path) {
		t.add(cpio.Directory(path, 0o755))
	}
}

func (t *tree) addLink(path, target string) { t.add(cpio.Symlink(clean(path), target)) }

func (t *tree) addText(path, text string) {
	t.add(cpio.StaticRecord([]byte(text), cpio.Info{Name: clean(path), Mode: cpio.S_IFREG | 0o644}))
}

// addFile puts a host's file at a path of its own.
func (t *tree) addFile(guest, host string) error {
	info, err := os.Stat(host)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", host)
	}
	name := t.resolve(guest)
	t.add(cpio.Record{Info: cpio.Info{
		Name: name, Mode: cpio.S_IFREG | uint64(info.Mode().Perm()),
		MTime: uint64(info.ModTime().Unix()), FileSize: uint64(info.Size()),
	}})
	t.sources[name] = host
	return nil
}

// addFromHost puts a host's file at the same path, with the symbolic links that lead to it.
func (t *tree) addFromHost(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	for range 40 { // as many links as path_resolution(7) follows
		link, rest, err := firstLink(path)
		if err != nil {
			return err
		}
		if link == "" {
			return t.addFile(path, path)
		}
		target, err := os.Readlink(link)
		if err != nil {
			return err
		}
		// A folder that is there already, as a guest's /lib, stays what it is.
		if !t.has(clean(link)) {
			t.addLink(link, target)
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(link), target)
		}
		path = filepath.Join(target, rest)
	}
	return fmt.Errorf("%s: too many symbolic links", path)
}

// firstLink is the shortest beginning of a path that is a symbolic link, and what follows it.
func firstLink(path string) (link, rest string, err error) {
	for at := 1; at <= len(path); at++ {
		if at < len(path) && path[at] != '/' {
			continue
		}
		info, err := os.Lstat(path[:at])
		if err != nil {
			return "", "", err
		}
		if info.Mode()&os.ModeSymlink != 0 {
			return path[:at], path[at:], nil
		}
	}
	return "", "", nil
}

// resolve follows the tree's own symbolic links in the folders of a path.
func (t *tree) resolve(path string) string {
	path = clean(path)
	for range 40 { // as many links as path_resolution(7) follows
		dir, target, rest := t.firstLink(path)
		if target == "" {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(dir, target)
		}
		path = clean(filepath.Join(target, rest))
	}
	return path
}

// firstLink finds the first folder in a path that is a symbolic link: the folder it is in, its target, what follows it.
func (t *tree) firstLink(path string) (dir, target, rest string) {
	for at, c := range path {
		if c != '/' {
			continue
		}
		r, ok := t.records[path[:at]]
		if !ok || r.Mode&cpio.S_IFMT != cpio.S_IFLNK {
			continue
		}
		text := make([]byte, r.FileSize)
		if _, err := r.ReadAt(text, 0); err != nil {
			panic(err) // it is a string in memory
		}
		return filepath.Dir(path[:at]), string(text), path[at:]
	}
	return "", "", ""
}

func (t *tree) has(path string) bool {
	_, ok := t.records[t.resolve(path)]
	return ok
}

func clean(path string) string { return strings.TrimPrefix(filepath.Clean("/"+path), "/") }

// write writes all records; sorted, folders come before what is in them.
func (t *tree) write(w cpio.RecordWriter) error {
	for _, name := range slices.Sorted(maps.Keys(t.records)) {
		r := t.records[name]
		if host, ok := t.sources[name]; ok {
			content, err := os.ReadFile(host)
			if err != nil {
				return err
			}
			if uint64(len(content)) != r.FileSize {
				return fmt.Errorf("%s changed while it was being read", host)
			}
			r.ReaderAt = bytes.NewReader(content)
		}
		if err := w.WriteRecord(r); err != nil {
			return errors.Join(fmt.Errorf("%s", name), err)
		}
	}
	return nil
}
