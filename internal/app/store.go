package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/kup-project/kup/internal/kernel"
)

// DefaultDir is where records and images are kept unless told otherwise.
const DefaultDir = "/var/lib/kup"

// DirVariable is the environment variable that names another directory.
const DirVariable = "KUP_STATE_DIR"

// Store is the state directory.
type Store struct{ dir string }

// Open returns the store in dir, or if that is empty in the directory that KUP_STATE_DIR names, or in DefaultDir. It creates nothing.
func Open(dir string) (*Store, error) {
	if dir == "" {
		dir = os.Getenv(DirVariable)
	}
	if dir == "" {
		dir = DefaultDir
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	return &Store{dir}, nil
}

// Dir is the state directory.
func (s *Store) Dir() string { return s.dir }

func (s *Store) recordPath(name string) string { return filepath.Join(s.dir, "apps", name+".json") }
func (s *Store) lockPath(name string) string   { return filepath.Join(s.dir, "apps", name+".lock") }

// LogPath is where a detached application's output goes.
func (s *Store) LogPath(name string) string { return filepath.Join(s.dir, "log", name+".log") }

// mkdir makes the state directory or one below it. Images hold memory, records hold environments: only root may read them.
func (s *Store) mkdir(name string) error {
	if err := os.MkdirAll(filepath.Join(s.dir, name), 0o700); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return nil
}

// List returns the records of all applications, by name.
func (s *Store) List() ([]*Record, error) {
	paths, err := filepath.Glob(s.recordPath("*"))
	if err != nil {
		return nil, err
	}
	records := make([]*Record, 0, len(paths))
	for _, path := range paths {
		r, err := s.Load(strings.TrimSuffix(filepath.Base(path), ".json"))
		if errors.Is(err, ErrUnknown) {
			continue // removed since
		}
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	slices.SortFunc(records, func(a, b *Record) int { return strings.Compare(a.Name, b.Name) })
	return records, nil
}

// Load returns the record of an application.
func (s *Store) Load(name string) (*Record, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(s.recordPath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w; kup ps lists them", name, ErrUnknown)
	}
	if err != nil {
		return nil, err
	}
	r := &Record{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s: %w; it is damaged: remove it with kup rm %s", s.recordPath(name), err, name)
	}
	r.Name = name
	return r, nil
}

func (s *Store) save(r *Record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(s.recordPath(r.Name), append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("record of %s: %w", r.Name, err)
	}
	return nil
}

// Locked is an application that no other kup command changes until Unlock.
type Locked struct {
	*Record
	store *Store
	file  *os.File
}

// Lock takes an application's lock, or returns an error that matches ErrBusy.
func (s *Store) Lock(name string) (*Locked, error) { return s.lock(name, false) }

// LockWaiting is Lock, but waits while another kup command has the lock.
func (s *Store) LockWaiting(name string) (*Locked, error) { return s.lock(name, true) }

func (s *Store) lock(name string, wait bool) (*Locked, error) {
	if _, err := s.Load(name); err != nil {
		return nil, err
	}
	file, err := s.lockFile(name, wait)
	if err != nil {
		return nil, err
	}
	r, err := s.Load(name) // it may have changed while we waited
	if err != nil {
		file.Close()
		return nil, err
	}
	return &Locked{r, s, file}, nil
}

// lockFile makes sure that the file it locked is still the one that others will find: a removed application's lock file is unlinked.
func (s *Store) lockFile(name string, wait bool) (*os.File, error) {
	if err := s.mkdir("apps"); err != nil {
		return nil, err
	}
	for {
		f, err := os.OpenFile(s.lockPath(name), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock of %s: %w", name, err)
		}
		if err := kernel.LockFile(f, wait); err != nil {
			f.Close()
			if errors.Is(err, kernel.ErrLocked) {
				return nil, fmt.Errorf("%s: %w; try again when it is done", name, ErrBusy)
			}
			return nil, err
		}
		mine, err := f.Stat()
		if err == nil {
			if found, statErr := os.Stat(s.lockPath(name)); statErr == nil && os.SameFile(mine, found) {
				return f, nil
			}
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
}

// Save writes the record.
func (l *Locked) Save() error { return l.store.save(l.Record) }

// Unlock lets other commands go on. It may be called twice.
func (l *Locked) Unlock() {
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}
