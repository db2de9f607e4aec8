package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Remove forgets an application that does not run, and deletes its log and the images that kup found a place for. It returns the image that it
// left alone because the user chose its place, if there is one.
func (s *Store) Remove(name string) (kept string, err error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	if _, err := os.Stat(s.recordPath(name)); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s: %w; kup ps lists them", name, ErrUnknown)
	}
	lock, err := s.lockFile(name, false)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	// A damaged record is no reason to keep it.
	if r, err := s.Load(name); err == nil {
		if Alive(r) {
			return "", fmt.Errorf("%s: %w as pid %d; end it first", name, ErrRunning, r.PID)
		}
		if r.Image != "" && !s.owns(name, r.Image) {
			kept = r.Image
		}
	}
	if err := s.removeImages(name); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	for _, path := range []string{s.LogPath(name), s.recordPath(name), s.lockPath(name)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("%s: %w", name, err)
		}
	}
	return kept, nil
}
