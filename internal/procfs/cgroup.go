package procfs

import (
	"slices"
	"strings"
)

// CGroup is a line of /proc/PID/cgroup.
type CGroup struct {
	Hierarchy   int      // 0 for cgroup v2
	Controllers []string // of a v1 hierarchy
	Path        string
}

// ReadCGroups reads /proc/PID/cgroup.
func ReadCGroups(pid int) ([]CGroup, error) {
	text, err := read(pid, "cgroup")
	if err != nil {
		return nil, err
	}
	return parseCGroups(pid, text)
}

func parseCGroups(pid int, text string) ([]CGroup, error) {
	var all []CGroup
	var p integers
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimRight(line, "\n"), ":", 3)
		if len(f) != 3 {
			return nil, formatError(pid, "cgroup", "%q", line)
		}
		g := CGroup{Hierarchy: p.int(f[0]), Path: f[2]}
		if f[1] != "" {
			g.Controllers = strings.Split(f[1], ",")
		}
		all = append(all, g)
	}
	if p.err != nil {
		return nil, formatError(pid, "cgroup", "%v", p.err)
	}
	return slices.Clip(all), nil
}
