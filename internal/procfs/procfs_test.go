package procfs

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStat(t *testing.T) {
	const tail = " T 40 41 42 34816 43 4194304 98 0 0 0 7 8 0 0 20 -5 3 0 122365 3133440 390 18446744073709551615 94905231941632 " +
		"94905231961513 140727754106704 0 0 0 0 0 0 1 0 0 17 1 2 3 0 0 0 94905231977520 94905231979136 94905556566016 " +
		"140727754107577 140727754107597 140727754107598 140727754108907 256\n"
	for name, comm := range map[string]string{
		"plain": "cat", "parentheses": "a) R (b", "newline": "a\nb", "empty": "",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseStat(44, "44 ("+comm+")"+tail)
			if err != nil {
				t.Fatal(err)
			}
			want := Stat{
				PID: 44, Comm: comm, State: 'T', PPID: 40, PGID: 41, SID: 42, TTY: 34816, TTYPGID: 43, Flags: 4194304,
				UserTime: 7, SystemTime: 8, Nice: -5, Threads: 3, StartTime: 122365,
				StartCode: 94905231941632, EndCode: 94905231961513, StartStack: 140727754106704,
				ExitSignal: 17, CPU: 1, RTPriority: 2, Policy: 3,
				StartData: 94905231977520, EndData: 94905231979136, StartBrk: 94905556566016,
				ArgStart: 140727754107577, ArgEnd: 140727754107597, EnvStart: 140727754107598, EnvEnd: 140727754108907,
				ExitCode: 256,
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	got, err := parseStatus(7, "Name:\ta\\nb\\\\ c\nUmask:\t0027\nState:\tT (stopped)\nTgid:\t7\nPid:\t8\nPPid:\t1\nTracerPid:\t9\n"+
		"Uid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t10 20 \nNSpid:\t8\t2\nKthread:\t1\nVmRSS:\t    1744 kB\nVmPTE:\t      60 kB\nThreads:\t2\n"+
		"SigPnd:\t0000000000000001\nShdPnd:\t0000000000000002\nSigBlk:\t0000000000000004\nSigIgn:\t0000000000000008\nSigCgt:\t8000000000000000\n"+
		"CapInh:\t0000000000000001\nCapPrm:\t000001fffeffffff\nCapEff:\t0000000000000002\nCapBnd:\t0000000000000003\nCapAmb:\t0000000000000004\n"+
		"NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n")
	if err != nil {
		t.Fatal(err)
	}
	want := Status{
		Name: "a\nb\\ c", State: 'T', Umask: 0o27, TGID: 7, PID: 8, PPID: 1, TracerPID: 9,
		UIDs: [4]uint32{1, 2, 3, 4}, GIDs: [4]uint32{5, 6, 7, 8}, Groups: []uint32{10, 20}, NSPID: []int{8, 2},
		Kthread: true, Threads: 2, VMRSS: 1744 << 10, VMPTE: 60 << 10,
		SigPending: 1, SharedPending: 2, SigBlocked: 4, SigIgnored: 8, SigCaught: 1 << 63,
		CapInheritable: 1, CapPermitted: 0x1fffeffffff, CapEffective: 2, CapBounding: 3, CapAmbient: 4,
		NoNewPrivs: true, Seccomp: 2, SeccompFilters: 3,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestMaps(t *testing.T) {
	got, err := parseMaps(1, strings.NewReader(
		"00400000-00452000 r-xp 00001000 08:02 173521      /usr/bin/a b\n"+
			"7f0000000000-7f0000001000 rw-s 00000000 00:01 12                         /memfd:x\\012y (deleted)\n"+
			"7f0000002000-7f0000003000 ---p 00000000 00:00 0 \n"+
			"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Mapping{
		{Start: 0x400000, End: 0x452000, Read: true, Exec: true, Offset: 0x1000, Major: 8, Minor: 2, Inode: 173521, Path: "/usr/bin/a b"},
		{Start: 0x7f0000000000, End: 0x7f0000001000, Read: true, Write: true, Shared: true, Minor: 1, Inode: 12, Path: "/memfd:x\ny", Deleted: true},
		{Start: 0x7f0000002000, End: 0x7f0000003000},
		{Start: 0xffffffffff600000, End: 0xffffffffff601000, Exec: true, Path: "[vsyscall]"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestSMaps(t *testing.T) {
	got, err := parseSMaps(1, strings.NewReader(
		"7f0000000000-7f0000200000 rw-p 00000000 00:00 0                          [anon: jit]\n"+
			"Size:               2048 kB\nKernelPageSize:     2048 kB\nRss:                  12 kB\nShared_Clean:          1 kB\nShared_Dirty:          2 kB\nPrivate_Dirty:         9 kB\nAnonymous:             8 kB\nShared_Hugetlb:        4 kB\nSwap:                  4 kB\n"+
			"Locked:               12 kB\nTHPeligible:           0\nProtectionKey:         3\nVmFlags: rd wr mr mw me ac ht \n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []SMapping{{
		Mapping:  Mapping{Start: 0x7f0000000000, End: 0x7f0000200000, Read: true, Write: true, Path: "[anon: jit]"},
		PageSize: 2 << 20, Rss: 12 << 10, InOthers: 7 << 10, Anon: 8 << 10, Swap: 4 << 10, Locked: 12 << 10, PKey: 3,
		Flags: []string{"rd", "wr", "mr", "mw", "me", "ac", "ht"},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if !got[0].Has("ht") || got[0].Has("lo") {
		t.Error("Has is wrong about ht or lo")
	}
}

func TestFDInfo(t *testing.T) {
	got, err := parseFDInfo(1, "fdinfo/3", "pos:\t4096\nflags:\t02004002\nmnt_id:\t15\nino:\t99\neventfd-count:                1\n"+
		"lock:\t1: POSIX  ADVISORY  WRITE 12 00:01:9 0 EOF\n")
	if err != nil {
		t.Fatal(err)
	}
	want := FDInfo{Pos: 4096, Flags: 0o2004002, MountID: 15, Inode: 99,
		Lines: []string{"eventfd-count:                1", "lock:\t1: POSIX  ADVISORY  WRITE 12 00:01:9 0 EOF"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if v, ok := got.Value("eventfd-count"); !ok || v != "1" {
		t.Errorf("eventfd-count is %q, %v", v, ok)
	}
}

func TestSyscall(t *testing.T) {
	for text, want := range map[string]Syscall{
		"running\n":        {Running: true, Number: -1},
		"-1 0x7ffd 0x40\n": {Number: -1, SP: 0x7ffd, PC: 0x40},
		"0 0x3 0x7fc6b80eb000 0x20000 0x7f 0xffffffff 0x0 0x7fff 0x7fc6\n": {
			Args: [6]uint64{3, 0x7fc6b80eb000, 0x20000, 0x7f, 0xffffffff, 0}, SP: 0x7fff, PC: 0x7fc6},
	} {
		got, err := parseSyscall(1, text)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q: %s", text, d)
		}
	}
}

func TestTimers(t *testing.T) {
	got, err := parseTimers(1, "ID: 0\nsignal: 60/00007fff86e452a8\nnotify: signal/pid.2634\nClockID: 0\n"+
		"ID: 4\nsignal: 14/0000000000000000\nnotify: thread/tid.2635\nClockID: 1\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []Timer{
		{Signal: 60, Value: 0x7fff86e452a8, Notify: "signal", PID: 2634},
		{ID: 4, Signal: 14, Notify: "thread", TID: 2635, Clock: 1},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestCGroupsAndTimeOffsets(t *testing.T) {
	groups, err := parseCGroups(1, "3:cpu,cpuacct:/a:b\n0::/\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []CGroup{{3, []string{"cpu", "cpuacct"}, "/a:b"}, {0, nil, "/"}}
	if d := cmp.Diff(want, groups); d != "" {
		t.Error(d)
	}
	offsets, err := parseTimeOffsets(1, "monotonic          -2   5\nboottime           1         0\n")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(TimeOffsets{-2e9 + 5, 1e9}, offsets); d != "" {
		t.Error(d)
	}
}

func TestMalformed(t *testing.T) {
	for name, parse := range map[string]func() error{
		"stat":        func() error { _, err := parseStat(1, "1 (x) R 1"); return err },
		"stat number": func() error { _, err := parseStat(1, "1 (x) R"+strings.Repeat(" x", 50)); return err },
		"status":      func() error { _, err := parseStatus(1, "Name:\tx\n"); return err },
		"maps":        func() error { _, err := parseMaps(1, strings.NewReader("400000 r-xp\n")); return err },
		"smaps":       func() error { _, err := parseSMaps(1, strings.NewReader("Rss: 1 kB\n")); return err },
		"fdinfo":      func() error { _, err := parseFDInfo(1, "fdinfo/0", "pos: 1\n"); return err },
		"syscall":     func() error { _, err := parseSyscall(1, "1 2\n"); return err },
		"timers":      func() error { _, err := parseTimers(1, "signal: 1\n"); return err },
		"limits":      func() error { _, err := parseLimits(1, "Max cpu time 1 2 seconds\n"); return err },
		"cgroup":      func() error { _, err := parseCGroups(1, "x\n"); return err },
		"offsets":     func() error { _, err := parseTimeOffsets(1, "monotonic x 1\n"); return err },
	} {
		if err := parse(); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: got %v, want ErrFormat", name, err)
		}
	}
}

// TestOwnProcess reads every file of the running kernel.
func TestOwnProcess(t *testing.T) {
	pid := os.Getpid()
	stat, err := ReadStat(pid)
	if err != nil || stat.PID != pid || stat.PPID != os.Getppid() {
		t.Errorf("stat: %+v, %v", stat, err)
	}
	status, err := ReadStatus(pid)
	if err != nil || status.PID != pid || status.TGID != pid || status.Name != stat.Comm {
		t.Errorf("status: %+v, %v", status, err)
	}
	maps, err := ReadMaps(pid)
	if err != nil || !slices.ContainsFunc(maps, func(m Mapping) bool { return m.Path == "[vdso]" && m.Exec }) {
		t.Errorf("maps: %v, %v", maps, err)
	}
	smaps, err := ReadSMaps(pid)
	if err != nil || len(smaps) == 0 || smaps[0].PageSize == 0 || len(smaps[0].Flags) == 0 {
		t.Errorf("smaps: %v, %v", smaps, err)
	}
	threads, err := Threads(pid)
	if err != nil || !slices.Contains(threads, pid) {
		t.Errorf("threads: %v, %v", threads, err)
	}
	children, err := Children(os.Getppid())
	if err != nil || !slices.Contains(children, pid) {
		t.Errorf("children of the parent: %v, %v", children, err)
	}
	scanned, err := childrenByParent(os.Getppid())
	if err != nil || !slices.Contains(scanned, pid) {
		t.Errorf("children of the parent by scanning: %v, %v", scanned, err)
	}
	fds, err := FDs(pid)
	if err != nil || len(fds) == 0 {
		t.Fatalf("fds: %v, %v", fds, err)
	}
	if info, err := ReadFDInfo(pid, fds[0]); err != nil || info.MountID == 0 {
		t.Errorf("fdinfo: %+v, %v", info, err)
	}
	if _, err := ReadSyscall(pid); err != nil {
		t.Error(err)
	}
	if _, err := ReadWchan(pid); err != nil {
		t.Error(err)
	}
	if _, err := ReadTimers(pid); err != nil {
		t.Error(err)
	}
	if limits, err := ReadLimits(pid); err != nil || limits[7].Soft == 0 {
		t.Errorf("limits: %v, %v", limits, err)
	}
	if groups, err := ReadCGroups(pid); err != nil || len(groups) == 0 {
		t.Errorf("cgroups: %v, %v", groups, err)
	}
	if ns, err := ReadNamespaces(pid); err != nil || ns["net"] == "" {
		t.Errorf("namespaces: %v, %v", ns, err)
	}
	if _, err := ReadTimeOffsets(pid); err != nil {
		t.Error(err)
	}
}

func TestGone(t *testing.T) {
	const none = 1 << 30 // above PID_MAX_LIMIT
	for name, read := range map[string]func() error{
		"stat":       func() error { _, err := ReadStat(none); return err },
		"threads":    func() error { _, err := Threads(none); return err },
		"namespaces": func() error { _, err := ReadNamespaces(none); return err },
		"offsets":    func() error { _, err := ReadTimeOffsets(none); return err },
	} {
		if err := read(); !Gone(err) {
			t.Errorf("%s: got %v, want that the process is gone", name, err)
		}
	}
}
