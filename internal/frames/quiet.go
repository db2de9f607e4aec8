package frames

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// setting is a file of the kernel's with what is to be in it for a while. A kernel that does not have the file does not have what it is about.
type setting struct {
	path   string
	wanted string
	alike  string // does as well
}

const thpSettings = "/sys/kernel/mm/transparent_hugepage"

// quietSettings are described in Documentation/admin-guide/sysctl/vm.rst and below Documentation/admin-guide/mm.
var quietSettings = []setting{
	{"/proc/sys/vm/compact_unevictable_allowed", "0", ""}, // locked memory is not compacted
	{"/proc/sys/vm/compaction_proactiveness", "0", ""},
	// A boost has kcompactd woken: mm/vmscan.c, balance_pgdat.
	{"/proc/sys/vm/watermark_boost_factor", "0", ""},
	// khugepaged ends, and what it does is done, when nobody may have huge pages: mm/khugepaged.c, start_stop_khugepaged.
	{thpSettings + "/enabled", "never", ""},
	// The same for one size, which goes by the setting for all unless it was given one of its own (v6.8).
	{thpSettings + "/hugepages-2048kB/enabled", "inherit", "never"},
	// Page faults do not compact memory.
	{thpSettings + "/defrag", "never", ""},
	// To write 2 would give every page a frame of its own again; to leave it does nothing.
	{"/sys/kernel/mm/ksm/run", "0", "2"},
	{"/proc/sys/kernel/numa_balancing", "0", ""},
	{"/sys/kernel/mm/numa/demotion_enabled", "false", ""},
	{"/proc/sys/vm/swappiness", "0", ""},
}

// overcommit lets processes map whatever they like: a kernel that has reserved most of its memory takes what they had for more than there is (mm/util.c,
// __vm_enough_memory).
var overcommit = []setting{{"/proc/sys/vm/overcommit_memory", "1", ""}}

// Settings are some of the running kernel's that were changed.
type Settings struct{ changes *ledger }

// BeQuiet keeps the kernel from moving page frames on its own account. It does not keep it from moving what is not locked when somebody needs a large piece of
// memory: see Inventory.Moved. It notes in a directory how that is taken back, see Recover.
func BeQuiet(dir string) (*Settings, error) { return quieten(dir, quietSettings) }

func quieten(dir string, settings []setting) (*Settings, error) {
	s, err := change(dir, quietLedger, settings)
	if err != nil {
		return nil, fmt.Errorf("keep page frames from moving: %w", err)
	}
	return s, nil
}

// Overcommit keeps the kernel from refusing mappings, for it has more memory than it knows. It notes in a directory how that is taken back, see Recover.
func Overcommit(dir string) (*Settings, error) {
	s, err := change(dir, overcommitLedger, overcommit)
	if err != nil {
		return nil, fmt.Errorf("allow mappings: %w", err)
	}
	return s, nil
}

// change makes settings, all of them or none.
func change(dir, ledger string, settings []setting) (*Settings, error) {
	l, err := newLedger(dir, ledger)
	if err != nil {
		return nil, err
	}
	s := &Settings{l}
	for _, one := range settings {
		if err := s.set(one); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

func (s *Settings) set(to setting) error {
	text, err := os.ReadFile(to.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	now := chosen(string(text))
	if now == to.wanted || now == to.alike {
		return nil
	}
	if err := s.changes.add(to.path, now); err != nil {
		return err
	}
	return writeText(to.path, to.wanted)
}

// chosen reads a setting: "60", or "always [madvise] never".
func chosen(text string) string {
	if _, rest, ok := strings.Cut(text, "["); ok {
		word, _, _ := strings.Cut(rest, "]")
		return word
	}
	return strings.TrimSpace(text)
}

// Close makes the settings what they were. There may be none, nil.
func (s *Settings) Close() error {
	if s == nil {
		return nil
	}
	return s.changes.takeBack()
}
