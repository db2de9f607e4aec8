package procfs

import (
	"strconv"
	"strings"
)

// Status is /proc/PID/status. Signal and capability sets are bit masks: bit n-1 is signal n, bit n is capability n.
type Status struct {
	Name      string
	State     byte // R, S, D, T (stopped), t (traced), Z, X, I
	Umask     uint32
	TGID      int
	PID       int
	PPID      int
	TracerPID int       // 0: not traced
	UIDs      [4]uint32 // real, effective, saved, file system
	GIDs      [4]uint32
	Groups    []uint32
	NSPID     []int // its ids in each pid namespace it is in, outermost first
	Kthread   bool  // since Linux 6.8; before that it is told by PF_KTHREAD in Stat.Flags
	Threads   int
	VMRSS     uint64 // bytes
	VMLocked  uint64 // bytes
	VMPTE     uint64 // page tables, bytes

	SigPending    uint64 // directed to the thread
	SharedPending uint64 // directed to the process
	SigBlocked    uint64
	SigIgnored    uint64
	SigCaught     uint64

	CapInheritable uint64
	CapPermitted   uint64
	CapEffective   uint64
	CapBounding    uint64
	CapAmbient     uint64

	NoNewPrivs     bool
	Seccomp        int // SECCOMP_MODE_*: 0 off, 1 strict, 2 filter
	SeccompFilters int
}

// ReadStatus reads /proc/PID/status.
func ReadStatus(pid int) (Status, error) {
	text, err := readOnce(pid, "status")
	if err != nil {
		return Status{}, err
	}
	return parseStatus(pid, text)
}

func parseStatus(pid int, text string) (s Status, err error) {
	var p integers
	for line := range strings.Lines(text) {
		key, value, ok := field(line)
		if !ok {
			continue
		}
		if n := s.number(key); n != nil {
			*n = p.int(value)
		} else if m := s.mask(key); m != nil {
			*m = p.hex(value)
		} else {
			s.set(&p, key, value)
		}
	}
	if p.err != nil || s.PID == 0 || s.State == 0 {
		return Status{}, formatError(pid, "status", "incomplete: %v", p.err)
	}
	return s, nil
}

// number is where a line goes that is a plain number; nil for others.
func (s *Status) number(key string) *int {
	switch key {
	case "Tgid":
		return &s.TGID
	case "Pid":
		return &s.PID
	case "PPid":
		return &s.PPID
	case "TracerPid":
		return &s.TracerPID
	case "Threads":
		return &s.Threads
	case "Seccomp":
		return &s.Seccomp
	case "Seccomp_filters":
		return &s.SeccompFilters
	}
	return nil
}

// mask is where a line goes that is a bit mask; nil for others.
func (s *Status) mask(key string) *uint64 {
	switch key {
	case "SigPnd":
		return &s.SigPending
	case "ShdPnd":
		return &s.SharedPending
	case "SigBlk":
		return &s.SigBlocked
	case "SigIgn":
		return &s.SigIgnored
	case "SigCgt":
		return &s.SigCaught
	case "CapInh":
		return &s.CapInheritable
	case "CapPrm":
		return &s.CapPermitted
	case "CapEff":
		return &s.CapEffective
	case "CapBnd":
		return &s.CapBounding
	case "CapAmb":
		return &s.CapAmbient
	}
	return nil
}

// set takes the lines that are neither a plain number nor a mask.
func (s *Status) set(p *integers, key, value string) {
	switch key {
	case "Name":
		s.Name = unescape(value)
	case "State":
		if value != "" {
			s.State = value[0]
		}
	case "Umask":
		s.Umask = uint32(p.base(value, 8))
	case "Kthread":
		s.Kthread = value == "1"
	case "NoNewPrivs":
		s.NoNewPrivs = value == "1"
	case "Uid":
		copy(s.UIDs[:], ids(p, value))
	case "Gid":
		copy(s.GIDs[:], ids(p, value))
	case "Groups":
		s.Groups = ids(p, value)
	case "NSpid":
		for _, v := range strings.Fields(value) {
			s.NSPID = append(s.NSPID, p.int(v))
		}
	case "VmRSS":
		s.VMRSS = p.uint64(strings.TrimSuffix(value, " kB")) << 10
	case "VmPTE":
		s.VMPTE = p.uint64(strings.TrimSuffix(value, " kB")) << 10
	case "VmLck":
		s.VMLocked = p.uint64(strings.TrimSuffix(value, " kB")) << 10
	}
}

func ids(p *integers, value string) []uint32 {
	var list []uint32
	for _, v := range strings.Fields(value) {
		list = append(list, uint32(p.uint64(v)))
	}
	return list
}

// unescape undoes what seq_escape and mangle_path do to odd characters: backslash and three octal digits; in Name also \n and \\.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			if i+3 < len(s) {
				if v, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
					b.WriteByte(byte(v))
					i += 3
					continue
				}
			}
			if i+1 < len(s) && (s[i+1] == 'n' || s[i+1] == '\\') {
				b.WriteByte(map[byte]byte{'n': '\n', '\\': '\\'}[s[i+1]])
				i++
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
