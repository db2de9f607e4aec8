package procfs

import "strings"

// Limit is one resource limit; Unlimited is RLIM_INFINITY.
type Limit struct{ Soft, Hard uint64 }

// Unlimited is RLIM_INFINITY of getrlimit(2).
const Unlimited = ^uint64(0)

// LimitCount is how many RLIMIT_* there are on x86-64, include/uapi/asm-generic/resource.h.
const LimitCount = 16

// limitNames are the names of /proc/PID/limits by RLIMIT_*, see fs/proc/base.c, lnames.
var limitNames = [LimitCount]string{
	"Max cpu time", "Max file size", "Max data size", "Max stack size", "Max core file size", "Max resident set",
	"Max processes", "Max open files", "Max locked memory", "Max address space", "Max file locks", "Max pending signals",
	"Max msgqueue size", "Max nice priority", "Max realtime priority", "Max realtime timeout",
}

// ReadLimits reads /proc/PID/limits; the index is RLIMIT_*. Unlike prlimit(2) it needs no CAP_SYS_RESOURCE for another user's
// process.
func ReadLimits(pid int) ([]Limit, error) {
	text, err := read(pid, "limits")
	if err != nil {
		return nil, err
	}
	return parseLimits(pid, text)
}

func parseLimits(pid int, text string) ([]Limit, error) {
	limits := make([]Limit, LimitCount)
	found := 0
	var p integers
	value := func(s string) uint64 {
		if s == "unlimited" {
			return Unlimited
		}
		return p.uint64(s)
	}
	for line := range strings.Lines(text) {
		for i, name := range limitNames {
			if rest, ok := strings.CutPrefix(line, name); ok {
				f := strings.Fields(rest)
				if len(f) < 2 {
					return nil, formatError(pid, "limits", "%q", line)
				}
				limits[i] = Limit{value(f[0]), value(f[1])}
				found++
			}
		}
	}
	if p.err != nil || found != LimitCount {
		return nil, formatError(pid, "limits", "%d limits, %v", found, p.err)
	}
	return limits, nil
}
