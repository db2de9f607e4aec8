package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/netlock"
	"github.com/kup-project/kup/internal/pageserver"
)

// ImagesDir holds the images of an application that were not given a place by the user.
func (s *Store) ImagesDir(name string) string { return filepath.Join(s.dir, "images", name) }

// owns tells whether kup chose the place of an image.
func (s *Store) owns(name, dir string) bool { return filepath.Dir(dir) == s.ImagesDir(name) }

// NextImageDir is where the next checkpoint of an application goes. It does not exist, but its parent does.
func (s *Store) NextImageDir(name string) (string, error) {
	if err := s.mkdir(filepath.Join("images", name)); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(s.ImagesDir(name))
	if err != nil {
		return "", err
	}
	last := 0
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			last = max(last, n)
		}
	}
	return filepath.Join(s.ImagesDir(name), strconv.Itoa(last+1)), nil
}

// DropOlderImages deletes the images of an application that kup found a place for, complete or not, except the newest.
func (s *Store) DropOlderImages(name, newest string) error {
	if !s.owns(name, newest) {
		return nil
	}
	entries, err := os.ReadDir(s.ImagesDir(name))
	if err != nil {
		return err
	}
	var failed error
	for _, e := range entries {
		dir := filepath.Join(s.ImagesDir(name), e.Name())
		if _, err := strconv.Atoi(e.Name()); err != nil || dir == newest {
			continue
		}
		// Another kup may be writing one of a process that is not under kup's care.
		if err := Discard(dir); err != nil && !errors.Is(err, image.ErrBusy) {
			failed = errors.Join(failed, fmt.Errorf("the new image %s is complete, but an older one stays: %w", newest, err))
		}
	}
	return failed
}

// removeImages deletes all images of an application that kup found a place for.
func (s *Store) removeImages(name string) error {
	entries, err := os.ReadDir(s.ImagesDir(name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := Discard(filepath.Join(s.ImagesDir(name), e.Name())); err != nil {
			return err
		}
	}
	return os.Remove(s.ImagesDir(name))
}

// Discard deletes an image, complete or not, and the lock by which the network stays silent for its connections until they are restored.
// An image that a page server still reads is left alone.
func Discard(dir string) error {
	if f, err := pageserver.Using(dir); err != nil {
		return err
	} else if f != nil {
		return fmt.Errorf("the image %s cannot be deleted yet: the application that was restored from it is %v; wait", dir, f)
	}
	lock := ""
	if img, err := image.Open(dir, image.AnyCPU()); err == nil {
		lock = img.State.NetLock
	}
	if err := image.Remove(dir); err != nil {
		return err
	}
	if lock == "" {
		return nil
	}
	return netlock.Unlock(lock)
}
