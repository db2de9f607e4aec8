package update

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/kup-project/kup/internal/checkpoint"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/restore"
)

// Phase is how far an update is; see the package's table.
type Phase string

const (
	Prepared  Phase = "prepared"  // checked, and the next kernel is loaded
	Frozen    Phase = "frozen"    // applications are being frozen and captured
	Switched  Phase = "switched"  // all images are complete, and the kernel is about to jump
	Restoring Phase = "restoring" // the next kernel restores
	Settled   Phase = "settled"   // everything that could be restored runs
	Aborted   Phase = "aborted"   // the applications run on under the old kernel
)

// journalFormat is the version of the journal's layout. A kup that finds another one leaves it alone.
const journalFormat = 1

// ErrJournal matches errors about a journal that cannot be read.
var ErrJournal = errors.New("the journal of the last update is not readable")

// Journal is the record of one update.
type Journal struct {
	Format       int           `json:"format"`
	Phase        Phase         `json:"phase"`
	Boot         string        `json:"boot"` // ID of the old kernel's boot
	From         string        `json:"from"` // release of the old kernel
	To           string        `json:"to"`   // release of the new one, "" if its file did not tell
	Kernel       string        `json:"kernel"`
	Initrd       string        `json:"initrd,omitempty"`
	Applications []Application `json:"applications"`
	Carrier      Carrier       `json:"carrier"` // of memory
	CarrierWhy   string        `json:"carrier_why"`
	Extra        uint64        `json:"extra,omitempty"`    // where memory was left in place, how much more was in use at most until the applications had theirs than before, bytes
	Paranoid     bool          `json:"paranoid,omitempty"` // all memory is compared with its hashes before an application runs
	Steps        []Stamp       `json:"steps"`

	dir string
}

// Application is what the journal says of one application.
type Application struct {
	Name     string `json:"name"`
	PID      int    `json:"pid"`
	Image    string `json:"image"`              // directory
	Former   string `json:"former,omitempty"`   // the image that its record named before, "" if none
	Restored bool   `json:"restored,omitempty"` // it runs under the new kernel
	Lost     bool   `json:"lost,omitempty"`     // its memory did not get there, so that it was started afresh
	Error    string `json:"error,omitempty"`    // why it could not be restored
	Fallback string `json:"fallback,omitempty"` // why its memory came from the disk, where it was to stay in its page frames

	Capture *checkpoint.Report `json:"capture,omitempty"` // where the time went before the jump
	Return  *restore.Report    `json:"return,omitempty"`  // and after it
}

// directory holds the journal and the lock of updates, below the state directory.
const directory = "update"

// JournalPath is where the journal of a state directory is.
func JournalPath(stateDir string) string { return filepath.Join(stateDir, directory, "journal.json") }

// newJournal begins the journal of an update; the first record writes it.
func newJournal(stateDir, to string) (*Journal, error) {
	j := &Journal{Format: journalFormat, To: to, dir: stateDir}
	var err error
	if j.Boot, err = procfs.BootID(); err != nil {
		return nil, err
	}
	j.From, err = procfs.KernelRelease()
	return j, err
}

// names notes where the files of the next kernel are.
func (j *Journal) names(kernel, initrd string) (err error) {
	if j.Kernel, err = filepath.Abs(kernel); err != nil || initrd == "" {
		return err
	}
	j.Initrd, err = filepath.Abs(initrd)
	return err
}

// ReadJournal returns the journal of the last update, or nil if there was none.
func ReadJournal(stateDir string) (*Journal, error) {
	return readJournal(JournalPath(stateDir), stateDir)
}

// readJournal reads the journal of a state directory, wherever it is.
func readJournal(path, stateDir string) (*Journal, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrJournal, err)
	}
	j := &Journal{dir: stateDir}
	if err := json.Unmarshal(data, j); err != nil {
		return nil, fmt.Errorf("%w: %s: %w; if no application waits to be restored, remove it", ErrJournal, path, err)
	}
	if j.Format != journalFormat {
		return nil, fmt.Errorf("%w: %s has format %d, and this kup reads format %d; use the kup that wrote it", ErrJournal, path, j.Format, journalFormat)
	}
	return j, nil
}

// stamp notes a step; the next record writes it.
func (j *Journal) stamp(s Stamp) { j.Steps = append(j.Steps, s) }

// record makes a phase durable.
func (j *Journal) record(p Phase) error {
	j.Phase = p
	data, err := j.encode()
	if err != nil {
		return err
	}
	path := JournalPath(j.dir)
	if err := renameio.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	// The file's content is durable; its name is, with its directory.
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if p == Settled || p == Aborted {
		return removeFormer(j.dir)
	}
	return nil
}

func (j *Journal) encode() ([]byte, error) {
	data, err := json.MarshalIndent(j, "", "  ")
	return append(data, '\n'), err
}

// elsewhere tells whether the machine has been restarted since the update began.
func (j *Journal) elsewhere() (bool, error) {
	boot, err := procfs.BootID()
	return boot != j.Boot, err
}

// ErrUpdating says that another process works on an update.
var ErrUpdating = errors.New("another kup is at work on an update")

// lockUpdates makes this process the only one that updates or boots.
func lockUpdates(stateDir string) (*os.File, error) {
	dir := filepath.Join(stateDir, directory)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if err := kernel.LockFile(f, false); err != nil {
		f.Close()
		if errors.Is(err, kernel.ErrLocked) {
			err = fmt.Errorf("%w; wait for its end", ErrUpdating)
		}
		return nil, err
	}
	return f, nil
}
