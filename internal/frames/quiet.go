package frames

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// setting is a file of the kernel's with what keeps page frames where they are. A kernel that does not have the file does not have what it is about.
type setting struct {
	path  string
	quiet string
	alike string // does as well
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

// Quiet keeps the kernel from moving page frames on its own account. It does not keep it from moving what is not locked when somebody needs a large piece of
// memory: see InPlace.Check.
type Quiet struct{ changes *ledger }

// Overcommit lets processes map more memory than the kernel has, which it would refuse (Documentation/mm/overcommit-accounting.rst), until Close: memory that was kept
// from it is yet to come. It notes in a directory how that is taken back, see Recover.
func Overcommit(dir string) (*Quiet, error) {
	return quieten(dir, []setting{{"/proc/sys/vm/overcommit_memory", "1", ""}})
}

// BeQuiet changes settings. It notes in a directory how that is taken back, see Recover.
func BeQuiet(dir string) (*Quiet, error) {
	q, err := quieten(dir, quietSettings)
	if err != nil {
		return nil, fmt.Errorf("keep page frames from moving: %w", err)
	}
	return q, nil
}

func quieten(dir string, settings []setting) (*Quiet, error) {
	l, err := newLedger(dir, quietLedger)
	if err != nil {
		return nil, err
	}
	q := &Quiet{l}
	for _, s := range settings {
		if err := q.set(s); err != nil {
			return nil, errors.Join(err, q.Close())
		}
	}
	return q, nil
}

func (q *Quiet) set(s setting) error {
	text, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	now := chosen(string(text))
	if now == s.quiet || now == s.alike {
		return nil
	}
	if err := q.changes.add(s.path, now); err != nil {
		return err
	}
	return writeText(s.path, s.quiet)
}

// chosen reads a setting: "60", or "always [madvise] never".
func chosen(text string) string {
	if _, rest, ok := strings.Cut(text, "["); ok {
		word, _, _ := strings.Cut(rest, "]")
		return word
	}
	return strings.TrimSpace(text)
}

// Close makes the settings what they were.
func (q *Quiet) Close() error { return q.changes.takeBack() }
