package app

import (
	"fmt"
)

// Captured notes that dir holds a complete image of the application. ended says whether it was ended afterwards or runs on.
func (l *Locked) Captured(dir string, ended bool) error {
	l.Image = dir
	if ended {
		l.set(Checkpointed)
	}
	return l.Save()
}

// Restoring notes that a restore has begun, and returns the image to restore from.
func (l *Locked) Restoring() (dir string, err error) {
	if Alive(l.Record) {
		return "", fmt.Errorf("%s: %w as pid %d; a restore needs that pid", l.Name, ErrRunning, l.PID)
	}
	if l.Image == "" {
		return "", fmt.Errorf("%s: %w; make one with kup checkpoint %s while it runs", l.Name, ErrNoImage, l.Name)
	}
	l.set(Restoring)
	return l.Image, l.Save()
}

// Restored notes that the application runs again, with the pid it had.
func (l *Locked) Restored() error {
	if err := l.identify(); err != nil {
		return fmt.Errorf("%s: it was restored, but pid %d has ended since: %w", l.Name, l.PID, err)
	}
	l.set(Running)
	return l.Save()
}

// NotRestored notes that a restore failed: the image is as good as before.
func (l *Locked) NotRestored() error {
	l.set(Checkpointed)
	return l.Save()
}

// RunsOn notes that an application runs on although it was captured: what was to follow has failed.
func (l *Locked) RunsOn() error {
	l.set(Running)
	return l.Save()
}

// ByPID finds the running application whose root a process is.
func (s *Store) ByPID(pid int) (name string, found bool, err error) {
	return s.find(func(r *Record) bool { return r.PID == pid && Alive(r) })
}

// ByImage finds the application whose last checkpoint is in dir.
func (s *Store) ByImage(dir string) (name string, found bool, err error) {
	return s.find(func(r *Record) bool { return r.Image == dir })
}

func (s *Store) find(match func(*Record) bool) (string, bool, error) {
	records, err := s.List()
	if err != nil {
		return "", false, err
	}
	for _, r := range records {
		if match(r) {
			return r.Name, true, nil
		}
	}
	return "", false, nil
}
