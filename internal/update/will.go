package update

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kup-project/kup/internal/kernel"
)

// Clauses of what shall happen if kup dies before the jump, and the applications run on. The second holds until the journal says "aborted": that takes away what it renames.
const (
	unloadKernel  = iota // it is to start with images that are out of date at once
	takeBackPhase        // that the images are complete, for the same reason
	clausesOfUpdate
)

// formerJournal is the journal of before Switched.
func formerJournal(stateDir string) string { return JournalPath(stateDir) + ".former" }

// recordSwitched makes it durable that all images are complete. If kup dies after that, the journal says again that none is.
func (u *update) recordSwitched() error {
	dir, err := filepath.Abs(u.Store.Dir())
	if err != nil {
		return err
	}
	journal, former := JournalPath(dir), formerJournal(dir)
	if err := removeFormer(dir); err != nil {
		return err
	}
	// The journal itself is replaced, not written over.
	if err := os.Link(journal, former); err != nil {
		return err
	}
	u.will.Revoke(takeBackPhase)
	if err := u.will.Rename(takeBackPhase, former, journal); err != nil {
		return err
	}
	return u.journal.record(Switched)
}

func removeFormer(stateDir string) error {
	err := os.Remove(formerJournal(stateDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// makeWill is for when the next kernel is about to be loaded.
func (u *update) makeWill() (err error) {
	if u.will, err = kernel.NewWill(clausesOfUpdate); err == nil {
		u.will.UnloadKernel(unloadKernel)
	}
	return err
}
