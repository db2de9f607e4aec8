package procfs

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/kup-project/kup/internal/kernel"
)

// ErrFormat says that a /proc file does not look as proc(5) describes it.
var ErrFormat = errors.New("unexpected contents of a /proc file")

// Gone reports whether an error means that the task has ended: the directory is not there any more, or, if it was opened
// before, reading gives ESRCH.
func Gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, kernel.ESRCH)
}

// Path returns /proc/PID/name.
func Path(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

func read(pid int, name string) (string, error) {
	data, err := kernel.ReadFile(Path(pid, name))
	if err != nil {
		return "", err
	}
	return string(data), nil
}

// readOnce is read for files of single_open in fs/proc.
func readOnce(pid int, name string) (string, error) { return kernel.ReadOnce(Path(pid, name)) }

func formatError(pid int, name string, format string, args ...any) error {
	return fmt.Errorf("%s: %s: %w", Path(pid, name), fmt.Sprintf(format, args...), ErrFormat)
}

// field is a "Key:	value" line of status, fdinfo and smaps.
func field(line string) (key, value string, ok bool) {
	key, value, ok = strings.Cut(line, ":")
	return key, strings.TrimSpace(value), ok
}

// integers parses decimal numbers and remembers the first failure.
type integers struct{ err error }

func (p *integers) int(s string) int { return int(p.int64(s)) }

func (p *integers) int64(s string) int64 {
	v, err := strconv.ParseInt(s, 10, 64)
	p.note(err)
	return v
}

func (p *integers) uint64(s string) uint64 { return p.base(s, 10) }

func (p *integers) hex(s string) uint64 { return p.base(s, 16) }

func (p *integers) base(s string, base int) uint64 {
	v, err := strconv.ParseUint(s, base, 64)
	p.note(err)
	return v
}

func (p *integers) note(err error) {
	if p.err == nil {
		p.err = err
	}
}
