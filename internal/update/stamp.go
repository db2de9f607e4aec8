package update

import (
	"fmt"
	"os"
	"time"

	"github.com/kup-project/kup/internal/kernel"
)

// Stamp says when something happened.
type Stamp struct {
	What   string        `json:"what"`
	Wall   time.Time     `json:"wall"`
	Uptime time.Duration `json:"uptime"` // ns since the kernel started
}

func stampNow(what string) Stamp {
	s := Stamp{What: what, Wall: time.Now()}
	if clocks, err := kernel.Clocks(); err == nil { // it has no other error than a wrong clock ID
		s.Uptime = time.Duration(clocks.Boottime)
	}
	return s
}

// String is a line for a log.
func (s Stamp) String() string {
	return fmt.Sprintf("kup: %s uptime=%.3f wall=%s", s.What, s.Uptime.Seconds(), s.Wall.UTC().Format("2006-01-02T15:04:05.000Z"))
}

// kernelLog is /dev/kmsg: the last place that a machine can write to before its kernel goes.
type kernelLog struct{ file *os.File }

func openKernelLog() kernelLog {
	file, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return kernelLog{} // the log is a courtesy
	}
	return kernelLog{file}
}

// write writes at the level of errors (syslog(2)), so that consoles show it also under the kernel parameter quiet.
func (l kernelLog) write(s Stamp) {
	if l.file != nil {
		_, _ = fmt.Fprintf(l.file, "<3>%s\n", s)
	}
}

func (l kernelLog) close() {
	if l.file != nil {
		l.file.Close()
	}
}
