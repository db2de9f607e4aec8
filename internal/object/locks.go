package object

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/refuse"
	"github.com/kup-project/kup/internal/tracee"
)

// Kinds of locks in fdinfo, see fs/locks.c, lock_get_status.
const (
	lockFlock = "FLOCK"  // flock(2): belongs to the open file description
	lockPosix = "POSIX"  // F_SETLK: belongs to the process
	lockOFD   = "OFDLCK" // F_OFD_SETLK: belongs to the open file description
)

// lockLines returns the kinds and the words of a descriptor's "lock:" lines:
//
//	1: POSIX  ADVISORY  WRITE 16735 fe:00:9994558 5 14
//
// number, kind, mode, type, pid, inode, first byte, last byte or EOF.
func lockLines(d *Descriptor) (lines [][]string) {
	for _, line := range d.Info.Lines {
		if text, ok := strings.CutPrefix(line, "lock:"); ok {
			lines = append(lines, strings.Fields(text))
		}
	}
	return lines
}

// refuseLocks refuses locks of kinds that are not restored.
func refuseLocks(h *Handler, d *Descriptor) error {
	for _, words := range lockLines(d) {
		if len(words) != 8 {
			return fmt.Errorf("%s: lock %q in /proc is not understood", d, strings.Join(words, " "))
		}
		switch kind := words[1]; {
		case kind == lockFlock, kind == lockPosix, kind == lockOFD && h.Kind == image.KindRegular:
		default:
			return refuse.Errorf("%s holds a lock of kind %s on %s, which kup cannot checkpoint; release it", d, kind, d.Link)
		}
	}
	return nil
}

// flockOf returns the kind of flock(2) lock that a description holds: "read", "write" or none.
func flockOf(d *Descriptor) string {
	for _, words := range lockLines(d) {
		if words[1] == lockFlock {
			return strings.ToLower(words[3])
		}
	}
	return ""
}

// recordLocks returns the locks of one kind that a descriptor shows.
func recordLocks(d *Descriptor, kind string) (locks []image.RecordLock, err error) {
	for _, words := range lockLines(d) {
		if words[1] != kind {
			continue
		}
		l := image.RecordLock{Write: words[3] == "WRITE"}
		if l.Start, err = strconv.ParseInt(words[6], 10, 64); err != nil {
			return nil, fmt.Errorf("%s: lock on %s: %w", d, d.Link, err)
		}
		if words[7] != "EOF" {
			last, err := strconv.ParseInt(words[7], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("%s: lock on %s: %w", d, d.Link, err)
			}
			l.Len = last - l.Start + 1
		}
		locks = append(locks, l)
	}
	return locks, nil
}

// lock takes a description's own locks again.
func (r *Rebuild) lock(f *image.OpenFile) error {
	fd := r.fds[f.ID]
	if f.Flock != "" {
		if err := kernel.Flock(fd, f.Flock == "write"); err != nil {
			return fmt.Errorf("%s: the lock (flock) that the application held on it: %w", r.name(f), err)
		}
	}
	if f.Regular == nil {
		return nil
	}
	for _, l := range f.Regular.Locks {
		if err := kernel.LockDescription(fd, l.Write, l.Start, l.Len); err != nil {
			return fmt.Errorf("%s: the lock (F_OFD_SETLK) that the application held on it: %w", r.name(f), err)
		}
	}
	return nil
}

// lockRecords takes a process's own locks. They belong to whoever asks for them; so the process itself does.
func lockRecords(p *image.Process, s *tracee.Seed) error {
	b := tracee.NewBatch(s)
	for _, l := range p.Locks {
		what := fmt.Sprintf("fd %d: the lock (F_SETLK) that the application held on bytes from %d", l.FD, l.Start)
		b.Must(what, kernel.SysFcntl, l.FD, kernel.FSetLk, b.Bytes(kernel.RecordLock(l.Write, l.Start, l.Len)))
		if b.Full() {
			if err := b.Run(); err != nil {
				return err
			}
		}
	}
	return b.Run()
}
