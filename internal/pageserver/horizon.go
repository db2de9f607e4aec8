package pageserver

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"github.com/kup-project/kup/internal/kexec"
)

// Horizon is up to where page servers may read physical memory in the background. Who gives the memory that they have read back to the kernel sets it, so that there is
// never much of it twice.
type Horizon struct {
	Keeper Identity `json:"keeper"` // who moves it; without that it is none
	Block  uint64   `json:"block"`  // what is read before anything beyond, bytes
	End    uint64   `json:"end"`    // address
}

// horizonPath is below Dir, but no Filling.
var horizonPath = filepath.Join(Dir, "horizon")

const (
	// forsaken is how long a horizon may stay as it is without anybody's word before page servers go on beyond it.
	forsaken = 20 * time.Second
	// doubted is how long it may stay so before somebody looks whether its keeper is there.
	doubted = 3 * time.Second
	// often is how often is looked at most how things are.
	often = 10 * time.Millisecond
	// reserve is what must be available, bytes, before pages from beyond the horizon are brought in: the kernel would end processes to find room for them.
	reserve = 64 << 20
)

// Move lets page servers that are started from now on, or know of a horizon, go up to End, and tells them that somebody cares. Whoever moves it is its keeper.
func (h *Horizon) Move() (err error) {
	if h.Keeper, err = identify(os.Getpid()); err != nil {
		return err
	}
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(Dir, 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(horizonPath, data, 0o600)
}

// RemoveHorizon lets all page servers go as far as they like.
func RemoveHorizon() error {
	if err := os.Remove(horizonPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// outlook is what a page server knows of the horizon. Its methods may be called by several goroutines.
type outlook struct {
	block uint64

	mu   sync.Mutex
	end  uint64    // as it was seen last
	seen time.Time // when that was

	looked time.Time // when available memory was
	short  bool      // as it was then
}

// lookOut returns nil if there is no horizon.
func lookOut() (*outlook, error) {
	h, _, err := readHorizon()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &outlook{block: h.Block, end: h.End}, nil
}

func readHorizon() (h Horizon, at time.Time, err error) {
	file, err := os.Open(horizonPath)
	if err != nil {
		return h, at, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return h, at, err
	}
	return h, info.ModTime(), json.NewDecoder(file).Decode(&h)
}

// reaches tells whether an address may be read in the background. It looks again where the horizon is before it says no.
func (o *outlook) reaches(address uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if address < o.end || time.Since(o.seen) < often {
		return address < o.end
	}
	o.seen = time.Now()
	h, at, err := readHorizon()
	silent := time.Since(at)
	if o.end = h.End; err != nil || silent > forsaken || silent > doubted && !h.Keeper.alive() {
		o.end = math.MaxUint64 // nobody moves it any more
	}
	return address < o.end
}

// scarce tells whether there is too little memory to bring in pages from beyond the horizon.
func (o *outlook) scarce() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.looked) > often {
		available, err := kexec.AvailableMemory()
		o.looked, o.short = time.Now(), err == nil && available < reserve
	}
	return o.short
}
