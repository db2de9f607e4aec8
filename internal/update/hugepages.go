package update

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/kup-project/kup/internal/image"
)

// hugePages counts huge pages (Documentation/admin-guide/mm/hugetlbpage.rst) by their size in bytes.
type hugePages map[uint64]uint64

// add adds what an image needs: private mappings have them reserved even where they are not in use.
func (h hugePages) add(st *image.State) {
	for _, p := range st.Processes {
		for _, v := range p.Memory.VMAs {
			if v.Kind == image.VMAHugeTLB && v.Page > 0 {
				h[v.Page] += (v.End - v.Start) / v.Page
			}
		}
	}
	for _, m := range st.Memories {
		if m.Huge != 0 {
			h[m.Huge] += (m.Size + m.Huge - 1) / m.Huge
		}
	}
}

// reserve sees to it that the kernel has as many free ones: a distribution reserves them later in its start-up, if at all. It may get fewer, which is for the restore
// to find out.
func (h hugePages) reserve() error {
	for size, pages := range h {
		pool := fmt.Sprintf("/sys/kernel/mm/hugepages/hugepages-%dkB/", size>>10)
		var count [3]uint64
		for i, name := range []string{"nr", "free", "resv"} {
			var err error
			if count[i], err = readCount(pool + name + "_hugepages"); err != nil {
				return fmt.Errorf("huge pages of %d MB: %w", size>>20, err)
			}
		}
		all, free := count[0], count[1]-count[2]
		if free >= pages {
			continue
		}
		if err := os.WriteFile(pool+"nr_hugepages", fmt.Append(nil, all+pages-free), 0); err != nil {
			return fmt.Errorf("%d huge pages of %d MB: %w", pages, size>>20, err)
		}
	}
	return nil
}

// readCount reads a file with a number in it.
func readCount(path string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}
