package procfs

import (
	"strconv"
	"strings"
)

// FDInfo is /proc/PID/fdinfo/FD.
type FDInfo struct {
	Pos     int64
	Flags   uint32 // of open(2), O_CLOEXEC included if the descriptor has it
	MountID int
	Inode   uint64 // since Linux 5.14, else 0
	// Lines are all further lines, which depend on the kind of file ("eventfd-count: 5", "tfd: ...", "lock: ...").
	Lines []string
}

// Value returns what follows "key:" in the first line with this key.
func (i *FDInfo) Value(key string) (string, bool) {
	for _, line := range i.Lines {
		if k, v, ok := field(line); ok && k == key {
			return v, true
		}
	}
	return "", false
}

// ReadFDInfo reads /proc/PID/fdinfo/FD.
func ReadFDInfo(pid, fd int) (FDInfo, error) {
	name := "fdinfo/" + strconv.Itoa(fd)
	text, err := readOnce(pid, name)
	if err != nil {
		return FDInfo{}, err
	}
	return parseFDInfo(pid, name, text)
}

func parseFDInfo(pid int, name, text string) (i FDInfo, err error) {
	var p integers
	seen := 0
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		key, value, _ := field(line)
		switch {
		case key == "pos":
			i.Pos = p.int64(value)
			seen++
		case key == "flags" && seen == 1:
			i.Flags = uint32(p.base(value, 8))
			seen++
		case key == "mnt_id":
			i.MountID = p.int(value)
		case key == "ino" && len(i.Lines) == 0:
			i.Inode = p.uint64(value)
		default:
			i.Lines = append(i.Lines, line)
		}
	}
	if p.err != nil || seen != 2 {
		return FDInfo{}, formatError(pid, name, "incomplete: %v", p.err)
	}
	return i, nil
}
