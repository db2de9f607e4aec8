package procfs

import "strings"

// Syscall is /proc/PID/syscall: what a task that sleeps is doing.
type Syscall struct {
	Running bool // it is on a processor, or ready to run: the rest is unknown
	Number  int  // -1: it sleeps outside of a system call, for instance in a page fault
	Args    [6]uint64
	SP, PC  uint64
}

// ReadSyscall reads /proc/PID/syscall of a task.
func ReadSyscall(tid int) (Syscall, error) {
	text, err := read(tid, "syscall")
	if err != nil {
		return Syscall{}, err
	}
	return parseSyscall(tid, text)
}

func parseSyscall(tid int, text string) (s Syscall, err error) {
	f := strings.Fields(text)
	if len(f) == 1 && f[0] == "running" {
		return Syscall{Running: true, Number: -1}, nil
	}
	if len(f) != 3 && len(f) != 9 {
		return s, formatError(tid, "syscall", "%q", text)
	}
	var p integers
	s.Number = p.int(f[0])
	hex := func(v string) uint64 { return p.hex(strings.TrimPrefix(v, "0x")) }
	if len(f) == 9 {
		for i := range s.Args {
			s.Args[i] = hex(f[1+i])
		}
	}
	s.SP, s.PC = hex(f[len(f)-2]), hex(f[len(f)-1])
	if p.err != nil {
		return Syscall{}, formatError(tid, "syscall", "%q: %v", text, p.err)
	}
	return s, nil
}

// ReadWchan reads /proc/PID/wchan: the kernel function that a task sleeps in, or "0". It is always "0" on a kernel without
// kallsyms.
func ReadWchan(tid int) (string, error) { return read(tid, "wchan") }
