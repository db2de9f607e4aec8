package frames

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/kexec"
)

// block is a memory block, the unit in which Linux takes memory offline, see Documentation/admin-guide/mm/memory-hotplug.rst.
type block struct {
	kexec.Range
	state  string // path of its file
	online string // what to write to it to have the block as it was

	census
}

// census counts the page frames of a block by what they are used for.
type census struct {
	fixed uint64 // by the kernel itself, so that they cannot be moved
	pool  uint64 // in the pool of huge pages, which would be smaller without them
	used  uint64 // in any way
}

// add counts a page frame with some flags. One without any is free as well, or the kernel's.
func (c *census) add(flags uint64) {
	const movable = flagLRU | flagAnonymous | flagMapped | flagHuge
	const fixed = flagSlab | flagPageTable | flagReserved | flagPoisoned | flagAbsent | flagCompoundHead | flagCompoundTail
	if flags&flagBuddy != 0 {
		return
	}
	c.used++
	switch {
	case flags&flagHugeTLB != 0:
		c.pool++
	case flags&movable == 0 && flags&fixed != 0:
		c.fixed++
	}
}

// candidates are blocks that may be taken offline.
type candidates struct {
	blocks  []block // the easiest first
	trouble trouble
}

// trouble says what is the matter with blocks, by their addresses.
type trouble map[uint64]string

// String counts them, as "2 offline already; 3 with holes".
func (t trouble) String() string {
	count := map[string]int{}
	for _, why := range t {
		count[why]++
	}
	var parts []string
	for _, why := range slices.Sorted(maps.Keys(count)) {
		parts = append(parts, fmt.Sprintf("%d %s", count[why], why))
	}
	return cmp.Or(strings.Join(parts, "; "), "none")
}

// choice is how many blocks are looked at beyond twice as many as are needed.
const choice = 32

// survey looks for blocks that may be taken offline. Large machines have more of them than are worth a look: it begins with the lowest, because devices may need
// memory below 4 GB, and ends when there is a choice.
func survey(size, need uint64) (*candidates, error) {
	ram, err := usableRAM(size)
	if err != nil {
		return nil, err
	}
	flags, err := openPageFlags()
	if err != nil {
		return nil, err
	}
	defer flags.Close()
	all, err := memoryBlocks(size)
	if err != nil {
		return nil, err
	}
	c := &candidates{trouble: trouble{}}
	easy := uint64(0)
	for _, r := range all {
		if easy >= 2*need+choice*size {
			break
		}
		b, why, err := inspect(r, ram, flags)
		if err != nil {
			return nil, err
		}
		if why != "" {
			c.trouble[r.Start] = why
			continue
		}
		if b.fixed == 0 {
			easy += size
		}
		c.blocks = append(c.blocks, b)
	}
	slices.SortStableFunc(c.blocks, easier)
	return c, nil
}

// easier orders blocks by how likely and how quickly they can be emptied.
func easier(a, b block) int {
	if (a.fixed == 0) != (b.fixed == 0) {
		return cmp.Compare(min(a.fixed, 1), min(b.fixed, 1))
	}
	return cmp.Compare(a.used, b.used)
}

// memoryBlocks lists all blocks of the machine by address.
func memoryBlocks(size uint64) ([]kexec.Range, error) {
	dirs, err := filepath.Glob(memoryDir + "/memory[0-9]*")
	if err != nil {
		return nil, err
	}
	var all []kexec.Range
	for _, dir := range dirs {
		n, err := readNumber(dir+"/phys_index", 16)
		if err != nil {
			return nil, err
		}
		all = append(all, kexec.Range{Start: n * size, End: (n + 1) * size})
	}
	slices.SortFunc(all, func(a, b kexec.Range) int { return cmp.Compare(a.Start, b.Start) })
	return all, nil
}

// inspect looks at a block, and says what is the matter with it if it cannot be taken offline.
func inspect(r kexec.Range, ram kexec.Ranges, flags *pageFlags) (b block, why string, err error) {
	if !ram.Contains(r) {
		return b, "with holes, or with the start of the kernel", nil
	}
	dir := fmt.Sprintf("%s/memory%d", memoryDir, r.Start/r.Size())
	b = block{Range: r, state: dir + "/state"}
	switch online, err := isOnline(b.state); {
	case err != nil:
		return b, "", err
	case !online:
		return b, "offline already", nil
	}
	if b.online, err = howOnline(dir); err != nil {
		return b, "", err
	}
	used, err := flags.read(r.Start/kernel.PageSize, r.Size()/kernel.PageSize)
	if err != nil {
		return b, "", err
	}
	for _, f := range used {
		b.add(f)
	}
	if b.pool > 0 {
		return b, "with huge pages of the pool", nil
	}
	return b, "", nil
}

// howOnline is what puts a block of that directory into the zone that it is in.
func howOnline(dir string) (string, error) {
	zones, err := os.ReadFile(dir + "/valid_zones")
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "online", nil
	case err != nil:
		return "", err
	case strings.HasPrefix(string(zones), "Movable"):
		return "online_movable", nil
	}
	return "online_kernel", nil
}

// putOnline writes how to the state of a block unless it is online.
func putOnline(path, how string) error {
	online, err := isOnline(path)
	if online || err != nil {
		return err
	}
	failed := writeText(path, how)
	if failed == nil {
		return nil
	}
	// The kernel may have been busy with what a process was killed in, and have given it up before it was our turn.
	if online, err := isOnline(path); online && err == nil {
		return nil
	}
	return fmt.Errorf("a memory block of the machine stays offline; try again with: echo %s >%s: %w", how, path, failed)
}

// isOnline reads the state of a block.
func isOnline(path string) (bool, error) {
	state, err := os.ReadFile(path)
	return strings.TrimSpace(string(state)) == "online", err
}
