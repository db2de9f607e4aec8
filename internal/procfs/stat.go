package procfs

import "strings"

// Stat is /proc/PID/stat.
type Stat struct {
	PID        int
	Comm       string
	State      byte // R, S, D, T (stopped), t (traced), Z, X, I
	PPID       int
	PGID       int
	SID        int
	TTY        int // device number of the controlling terminal, 0 without one
	TTYPGID    int // foreground process group of that terminal, -1 without one
	Flags      uint64
	UserTime   uint64 // clock ticks
	SystemTime uint64 // clock ticks
	Nice       int
	Threads    int
	StartTime  uint64 // clock ticks since boot; with the pid it names a process uniquely
	StartCode  uint64
	EndCode    uint64
	StartStack uint64
	ExitSignal int
	CPU        int
	RTPriority int
	Policy     int
	StartData  uint64
	EndData    uint64
	StartBrk   uint64
	ArgStart   uint64
	ArgEnd     uint64
	EnvStart   uint64
	EnvEnd     uint64
	ExitCode   int // as wait4(2) reports it; 0 without permission to trace
}

// statFields is how many fields follow the name in parentheses, see fs/proc/array.c, do_task_stat.
const statFields = 50

// Dead tells whether nothing of the process runs any more. A leader that has exited while other threads live on is a zombie, too, but not dead.
func (s *Stat) Dead() bool { return s.State == 'X' || s.State == 'Z' && s.Threads <= 1 }

// ReadStat reads /proc/PID/stat.
func ReadStat(pid int) (Stat, error) {
	text, err := readOnce(pid, "stat")
	if err != nil {
		return Stat{}, err
	}
	return parseStat(pid, text)
}

func parseStat(pid int, text string) (s Stat, err error) {
	// The name may itself contain spaces, parentheses and newlines: it ends at the last one.
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return s, formatError(pid, "stat", "no name in parentheses")
	}
	f := strings.Fields(text[end+1:])
	if len(f) < statFields || len(f[0]) != 1 {
		return s, formatError(pid, "stat", "%d fields", len(f))
	}
	// at numbers the fields as proc(5) does: 3 is the state.
	at := func(n int) string { return f[n-3] }
	var p integers
	s = Stat{
		PID:        p.int(strings.TrimSpace(text[:open])),
		Comm:       text[open+1 : end],
		State:      at(3)[0],
		PPID:       p.int(at(4)),
		PGID:       p.int(at(5)),
		SID:        p.int(at(6)),
		TTY:        p.int(at(7)),
		TTYPGID:    p.int(at(8)),
		Flags:      p.uint64(at(9)),
		UserTime:   p.uint64(at(14)),
		SystemTime: p.uint64(at(15)),
		Nice:       p.int(at(19)),
		Threads:    p.int(at(20)),
		StartTime:  p.uint64(at(22)),
		StartCode:  p.uint64(at(26)),
		EndCode:    p.uint64(at(27)),
		StartStack: p.uint64(at(28)),
		ExitSignal: p.int(at(38)),
		CPU:        p.int(at(39)),
		RTPriority: p.int(at(40)),
		Policy:     p.int(at(41)),
		StartData:  p.uint64(at(45)),
		EndData:    p.uint64(at(46)),
		StartBrk:   p.uint64(at(47)),
		ArgStart:   p.uint64(at(48)),
		ArgEnd:     p.uint64(at(49)),
		EnvStart:   p.uint64(at(50)),
		EnvEnd:     p.uint64(at(51)),
		ExitCode:   p.int(at(52)),
	}
	if p.err != nil {
		return Stat{}, formatError(pid, "stat", "%v", p.err)
	}
	return s, nil
}
