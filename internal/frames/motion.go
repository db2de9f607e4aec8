package frames

import (
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
)

// motionEvents count what takes pages out of their frames (mm/vmstat.c, vmstat_text): migration, swap, in its three forms, pages that nobody needs, and huge pages that small
// ones are copied to. A kernel that has not all of them cannot do what they count.
var motionEvents = []string{"pgmigrate_success", "pswpout", "zswpout", "swpout_zero", "pglazyfreed", "thp_collapse_alloc"}

// motion is how often each has happened since the kernel has started, to anybody's pages.
type motion map[string]uint64

func readMotion() (motion, error) {
	text, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return nil, err
	}
	return parseMotion(string(text))
}

func parseMotion(text string) (motion, error) {
	m := motion{}
	for _, name := range motionEvents {
		_, rest, found := strings.Cut("\n"+text, "\n"+name+" ")
		if !found {
			continue
		}
		number, _, _ := strings.Cut(rest, "\n")
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("/proc/vmstat: %s: %w", name, err)
		}
		m[name] = n
	}
	return m, nil
}

// undisturbed looks until nothing has moved while it did: else a page may be seen where it is not any more. It is ErrMoved if the kernel does not stop.
func undisturbed(read func() (motion, error), look func() error) error {
	const tries = 3
	before, err := read()
	if err != nil {
		return err
	}
	for range tries {
		if err := look(); err != nil {
			return err
		}
		after, err := read()
		if err != nil {
			return err
		}
		if maps.Equal(before, after) {
			return nil
		}
		before = after
	}
	return fmt.Errorf("%w, or may have: whenever they are looked at, the kernel moves memory meanwhile; try again when it has nobody to find memory for", ErrMoved)
}
