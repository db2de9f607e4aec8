package frames

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

	"github.com/kup-project/kup/internal/procfs"
)

// ledger is the record, in a file, of what was changed of the running kernel. An entry is written before the change that it is about, so that whoever comes after a
// kup that was killed can take all changes back.
type ledger struct {
	Boot    string  `json:"boot"` // ID of the kernel's boot
	Entries []entry `json:"entries"`

	path string
}

// entry says how a change is taken back: by writing Before to Path.
type entry struct {
	Path   string `json:"path"`
	Before string `json:"before"`
}

// The ledgers in a directory.
const (
	sliceLedger = "slice.json"
	quietLedger = "quiet.json"
)

// Recover takes back what Slices and Quiets with the same directory have left of a kup that was killed: memory blocks are put online, and settings are what they
// were. What another boot of the machine has left is forgotten. Nobody may use the directory meanwhile.
func Recover(dir string) error {
	return errors.Join(recoverLedger(filepath.Join(dir, sliceLedger)), recoverLedger(filepath.Join(dir, quietLedger)))
}

func recoverLedger(path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	l := ledger{path: path}
	if err := json.Unmarshal(data, &l); err != nil {
		return fmt.Errorf("%s, which says what was changed of the running kernel, is not readable: %w; restart the machine, which takes all of that back, and remove it", path, err)
	}
	boot, err := procfs.BootID()
	if err != nil {
		return err
	}
	if l.Boot != boot {
		return os.Remove(path)
	}
	return l.takeBack()
}

// newLedger begins a ledger in dir. What its predecessor has left is taken back first.
func newLedger(dir, name string) (*ledger, error) {
	l := &ledger{path: filepath.Join(dir, name)}
	if err := recoverLedger(l.path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	l.Boot, err = procfs.BootID()
	return l, err
}

// add notes how a change will be taken back.
func (l *ledger) add(path, before string) error {
	l.Entries = append(l.Entries, entry{path, before})
	return l.write()
}

// drop forgets the last entry: the change was not made.
func (l *ledger) drop() error {
	l.Entries = l.Entries[:len(l.Entries)-1]
	return l.write()
}

func (l *ledger) write() error {
	if len(l.Entries) == 0 {
		return os.Remove(l.path)
	}
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return renameio.WriteFile(l.path, data, 0o600)
}

// takeBack takes all changes back, last things first, and removes the file. What fails stays in it.
func (l *ledger) takeBack() error {
	var left []entry
	var failed []error
	for _, e := range slices.Backward(l.Entries) {
		if err := e.takeBack(); err != nil {
			left = append(left, e)
			failed = append(failed, err)
		}
	}
	slices.Reverse(left)
	if l.Entries = left; len(left) > 0 {
		return errors.Join(append(failed, l.write())...)
	}
	if err := os.Remove(l.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (e entry) takeBack() error {
	if strings.HasPrefix(e.Path, memoryDir) {
		return putOnline(e.Path, e.Before)
	}
	return writeText(e.Path, e.Before)
}
