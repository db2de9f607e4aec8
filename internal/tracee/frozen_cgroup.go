package tracee

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
)

// freezerMount is where systems mount the control groups of version 1 that can freeze, see cgroups(7).
const freezerMount = "/sys/fs/cgroup/freezer"

// checkCGroup refuses a process that a control group holds frozen: it would stop, but execute nothing.
func checkCGroup(info *ProcessInfo) error {
	groups, err := procfs.ReadCGroups(info.PID)
	if err != nil {
		return err
	}
	for _, g := range groups {
		frozen := false
		switch {
		case g.Hierarchy == 0:
			frozen = slices.ContainsFunc(kernel.UnifiedMounts, func(mount string) bool {
				return holds(filepath.Join(mount, g.Path, "cgroup.events"), "frozen 1")
			})
		case slices.Contains(g.Controllers, "freezer"):
			state := filepath.Join(freezerMount, g.Path, "freezer.state")
			frozen = holds(state, "FROZEN") || holds(state, "FREEZING")
		}
		if frozen {
			return refuse.Errorf("%v is frozen by its control group %s; thaw that first (systemctl thaw, docker unpause and the like)", info, g.Path)
		}
	}
	return nil
}

// holds reports whether a file can be read and has a line.
func holds(path, line string) bool {
	text, err := os.ReadFile(path)
	return err == nil && slices.Contains(strings.Split(strings.TrimSpace(string(text)), "\n"), line)
}
