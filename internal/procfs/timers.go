package procfs

import "strings"

// Timer is an entry of /proc/PID/timers: a POSIX timer made by timer_create(2).
type Timer struct {
	ID     int
	Signal int
	Value  uint64 // sigev_value, as a pointer
	Notify string // "signal", "none" or "thread"
	TID    int    // target thread with SIGEV_THREAD_ID, else 0
	PID    int    // target process without it, else 0
	Clock  int
}

// ReadTimers reads /proc/PID/timers, in the kernel's order. The file exists only with CONFIG_CHECKPOINT_RESTORE.
func ReadTimers(pid int) ([]Timer, error) {
	text, err := read(pid, "timers")
	if err != nil {
		return nil, err
	}
	return parseTimers(pid, text)
}

func parseTimers(pid int, text string) ([]Timer, error) {
	var all []Timer
	var p integers
	for line := range strings.Lines(text) {
		key, value, ok := field(line)
		if key == "ID" {
			all = append(all, Timer{ID: p.int(value)})
			continue
		}
		if !ok || len(all) == 0 {
			return nil, formatError(pid, "timers", "%q", line)
		}
		t := &all[len(all)-1]
		switch key {
		case "signal":
			number, pointer, _ := strings.Cut(value, "/")
			t.Signal = p.int(number)
			// %px prints 16 digits without 0x.
			t.Value = p.hex(strings.TrimPrefix(pointer, "0x"))
		case "notify":
			kind, target, _ := strings.Cut(value, "/")
			t.Notify = kind
			if tid, ok := strings.CutPrefix(target, "tid."); ok {
				t.TID = p.int(tid)
			} else {
				t.PID = p.int(strings.TrimPrefix(target, "pid."))
			}
		case "ClockID":
			t.Clock = p.int(value)
		}
	}
	if p.err != nil {
		return nil, formatError(pid, "timers", "%v", p.err)
	}
	return all, nil
}
