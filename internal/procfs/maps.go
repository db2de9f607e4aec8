package procfs

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/kup-project/kup/internal/kernel"
)

// Mapping is a line of /proc/PID/maps.
type Mapping struct {
	Start, End        uint64
	Read, Write, Exec bool
	Shared            bool   // MAP_SHARED, else private
	Offset            uint64 // bytes into the file
	Major, Minor      uint32 // of the device the file is on
	Inode             uint64
	Path              string // or a name in brackets, or empty for anonymous memory
	Deleted           bool   // the file has no name any more; Path is without " (deleted)"
}

// Size is in bytes.
func (m *Mapping) Size() uint64 { return m.End - m.Start }

// String is the mapping's address range as /proc/PID/maps has it.
func (m *Mapping) String() string { return fmt.Sprintf("%x-%x", m.Start, m.End) }

// ReadMaps reads /proc/PID/maps. It is empty for a zombie, also for a thread group's leader that has exited while other
// threads live on: ask for one of those.
func ReadMaps(pid int) ([]Mapping, error) {
	f, err := kernel.OpenFile(Path(pid, "maps"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseMaps(pid, f)
}

func parseMaps(pid int, r io.Reader) ([]Mapping, error) {
	var all []Mapping
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), 1<<20)
	for lines.Scan() {
		m, err := parseMapping(lines.Text())
		if err != nil {
			return nil, formatError(pid, "maps", "%q: %v", lines.Text(), err)
		}
		all = append(all, m)
	}
	return all, lines.Err()
}

func parseMapping(line string) (m Mapping, err error) {
	f := strings.SplitN(line, " ", 6)
	if len(f) < 5 || len(f[1]) != 4 {
		return m, fmt.Errorf("%d fields", len(f))
	}
	start, end, _ := strings.Cut(f[0], "-")
	major, minor, _ := strings.Cut(f[3], ":")
	var p integers
	m = Mapping{
		Start: p.hex(start), End: p.hex(end),
		Read: f[1][0] == 'r', Write: f[1][1] == 'w', Exec: f[1][2] == 'x', Shared: f[1][3] == 's',
		Offset: p.hex(f[2]),
		Major:  uint32(p.hex(major)), Minor: uint32(p.hex(minor)),
		Inode: p.uint64(f[4]),
	}
	if len(f) == 6 {
		// Only newlines are escaped here, as \012.
		m.Path = strings.ReplaceAll(strings.TrimLeft(f[5], " "), `\012`, "\n")
		m.Path, m.Deleted = strings.CutSuffix(m.Path, " (deleted)")
	}
	return m, p.err
}
