package procfs

import (
	"bufio"
	"io"
	"slices"
	"strings"

	"github.com/kup-project/kup/internal/kernel"
)

// SMapping is a mapping with its statistics from /proc/PID/smaps. Sizes are bytes.
type SMapping struct {
	Mapping
	PageSize uint64 // of the kernel for this mapping: larger than 4 KiB for hugetlb
	Rss      uint64 // present pages
	InOthers uint64 // of these, and of hugetlb ones, in other page tables, too
	Anon     uint64 // of these, anonymous
	Huge     uint64 // of these, in transparent huge pages that are mapped as such
	Swap     uint64
	Locked   uint64
	PKey     int      // protection key
	Flags    []string // VmFlags: two letters each, see proc(5)
}

// Has reports whether a flag of VmFlags is set.
func (m *SMapping) Has(flag string) bool { return slices.Contains(m.Flags, flag) }

// ReadSMaps reads /proc/PID/smaps. The kernel walks all page tables for it: about 7 ms per GB.
func ReadSMaps(pid int) ([]SMapping, error) {
	f, err := kernel.OpenFile(Path(pid, "smaps"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseSMaps(pid, f)
}

func parseSMaps(pid int, r io.Reader) ([]SMapping, error) {
	var all []SMapping
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), 1<<20)
	var p integers
	for lines.Scan() {
		line := lines.Text()
		if c := line[:min(1, len(line))]; c >= "0" && c <= "9" || c >= "a" && c <= "f" {
			m, err := parseMapping(line)
			if err != nil {
				return nil, formatError(pid, "smaps", "%q: %v", line, err)
			}
			all = append(all, SMapping{Mapping: m})
			continue
		}
		key, value, ok := field(line)
		if !ok || len(all) == 0 {
			return nil, formatError(pid, "smaps", "%q", line)
		}
		m := &all[len(all)-1]
		bytes := func() uint64 { return p.uint64(strings.TrimSuffix(value, " kB")) << 10 }
		switch key {
		case "KernelPageSize":
			m.PageSize = bytes()
		case "Rss":
			m.Rss = bytes()
		case "Shared_Clean", "Shared_Dirty", "Shared_Hugetlb":
			m.InOthers += bytes()
		case "Anonymous":
			m.Anon = bytes()
		case "AnonHugePages":
			m.Huge = bytes()
		case "Swap":
			m.Swap = bytes()
		case "Locked":
			m.Locked = bytes()
		case "ProtectionKey":
			m.PKey = p.int(value)
		case "VmFlags":
			m.Flags = strings.Fields(value)
		}
	}
	if p.err != nil {
		return nil, formatError(pid, "smaps", "%v", p.err)
	}
	return all, lines.Err()
}
