package update

import (
	"github.com/kup-project/kup/internal/object"
	"github.com/kup-project/kup/internal/tracee"
)

// checkOutlive refuses an application with open files that are gone when the kernel is.
func checkOutlive(root int) error {
	tree, err := tracee.Check([]int{root})
	if err != nil {
		return err
	}
	var pids []int
	for _, p := range tree {
		if !p.Zombie {
			pids = append(pids, p.PID)
		}
	}
	return object.CheckOutlive(pids)
}
