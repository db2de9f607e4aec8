package image

import (
	"errors"
	"strings"
	"testing"

	"github.com/kup-project/kup/internal/kernel"
)

func TestInconsistentStatesAreFound(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*State)
		want  string
	}{
		"nothing in it":     {func(s *State) { *s = State{} }, "no live process"},
		"only a zombie":     {func(s *State) { s.Processes[0].State = Zombie }, "no live process"},
		"unknown state":     {func(s *State) { s.Processes[0].State = "" }, "no state of a process"},
		"pid 0":             {func(s *State) { s.Processes[0].PID = 0 }, "no process ID"},
		"pid twice":         {func(s *State) { s.Processes = append(s.Processes, s.Processes[0]) }, "appears twice"},
		"child first":       {func(s *State) { s.Processes = append([]Process{{PID: 5, PPID: 4711, State: Zombie}}, s.Processes...) }, "before its parent"},
		"no threads":        {func(s *State) { s.Processes[0].Threads = nil }, "leader"},
		"other leader":      {func(s *State) { s.Processes[0].Threads[0].TID = 5 }, "leader"},
		"tid twice":         {func(s *State) { p := &s.Processes[0]; p.Threads = append(p.Threads, p.Threads[0]) }, "thread 4711 appears twice"},
		"short registers":   {func(s *State) { s.Processes[0].Threads[0].Registers = nil }, "registers take 0 bytes"},
		"short XSTATE":      {func(s *State) { s.Processes[0].Threads[0].XState = make([]byte, 512) }, "XSTATE takes 512"},
		"short siginfo":     {func(s *State) { s.Processes[0].Pending = []SigInfo{{}} }, "siginfo"},
		"short siginfo too": {func(s *State) { s.Processes[0].Threads[0].Pending = []SigInfo{{}} }, "siginfo"},
		"65 signals":        {func(s *State) { s.Processes[0].Actions = make([]SigAction, 65) }, "65 signal actions"},
		"17 limits":         {func(s *State) { s.Processes[0].Limits = make([]Limit, 17) }, "17 limits"},
		"fd twice":          {func(s *State) { p := &s.Processes[0]; p.FDs = append(p.FDs, p.FDs[0]) }, "fd 3: appears twice"},
		"fd -1":             {func(s *State) { s.Processes[0].FDs[0].Num = -1 }, "fd -1"},
		"fd without file":   {func(s *State) { s.Processes[0].FDs[0].File = 77 }, "no file 77"},
		"lock without fd":   {func(s *State) { s.Processes[0].Locks = []PosixLock{{FD: 9}} }, "fd 9, which is not open"},
		"file twice":        {func(s *State) { s.Files = append(s.Files, s.Files[0]) }, "file 1 appears twice"},
		"file of no kind":   {func(s *State) { s.Files[0].Kind = "" }, "no kind of file"},
		"file of two kinds": {func(s *State) { s.Files[0].Event = &EventFD{} }, "part about a eventfd"},
		"file of other":     {func(s *State) { s.Files[0].Kind = KindTCP }, "nothing about that"},
		"pipe end":          {func(s *State) { s.Files[0] = OpenFile{ID: 1, Kind: KindPipe, Pipe: &PipeEnd{Pipe: 3}} }, "no pipe 3"},
		"pipe twice":        {func(s *State) { s.Pipes = make([]Pipe, 2) }, "pipe 0 appears twice"},
		"memfd":             {func(s *State) { s.Files[0] = OpenFile{ID: 1, Kind: KindMemfd, Memfd: &Memfd{Memory: 3}} }, "no shared memory 3"},
		"epoll": {func(s *State) {
			s.Files[0] = OpenFile{ID: 1, Kind: KindEpoll, Epoll: &Epoll{Targets: []EpollTarget{{File: 9}}}}
		}, "watches file 9"},
		"memory twice": {func(s *State) { s.Memories = make([]SharedMem, 2) }, "shared memory 0 appears twice"},
		"behind memory": {func(s *State) {
			s.Memories = []SharedMem{{Size: 5000, FOAM: FOAM{"m", []Window{{0, 1 << 21, 0}}, []Extent{{0, 0x3000}}, false, nil}}}
		}, "behind its end"},
		"mapping order":      {func(s *State) { v := s.Processes[0].Memory.VMAs; v[0], v[1] = v[1], v[0] }, "out of order"},
		"mapping overlap":    {func(s *State) { s.Processes[0].Memory.VMAs[0].End = 0x7ff000001000 }, "out of order"},
		"mapping of bytes":   {func(s *State) { s.Processes[0].Memory.VMAs[0].Start++ }, "whole pages"},
		"empty mapping":      {func(s *State) { s.Processes[0].Memory.VMAs[0].End = 0x400000 }, "empty"},
		"mapping of nothing": {func(s *State) { s.Processes[0].Memory.VMAs[0].Kind = VMAShared }, "no shared memory 0"},
		"guards":             {func(s *State) { s.Processes[0].Memory.VMAs[0].Guards = []Extent{{2, 1}} }, "guard pages"},
		"hot lists":          {func(s *State) { s.Processes[0].Memory.Hot = make([][]Extent, HotLists+1) }, "5 lists of hot pages"},
		"hot extents":        {func(s *State) { s.Processes[0].Memory.Hot = [][]Extent{make([]Extent, HotExtents+1)} }, "129 extents"},
		"hot pages order":    {func(s *State) { s.Processes[0].Memory.Hot = [][]Extent{{{0x3000, 0x4000}, {0x1000, 0x2000}}} }, "hot pages"},
		"unmapped contents":  {func(s *State) { s.Processes[0].Memory.VMAs[0].End = 0x402000 }, "nothing is mapped"},
		"window order":       {func(s *State) { w := s.Processes[0].Memory.FOAM.Windows; w[0], w[1] = w[1], w[0] }, "out of order"},
		"window overlap":     {func(s *State) { s.Processes[0].Memory.FOAM.Windows[0].Offset = 0x200000 }, "overlap in the file"},
		"window far away":    {func(s *State) { s.Processes[0].Memory.FOAM.Windows[0].Offset = 1 << 63 }, "too large"},
		"extent order":       {func(s *State) { e := s.Processes[0].Memory.FOAM.Extents; e[0], e[1] = e[1], e[0] }, "out of order"},
		"extent of bytes":    {func(s *State) { s.Processes[0].Memory.FOAM.Extents[0].End-- }, "whole pages"},
		"no window":          {func(s *State) { s.Processes[0].Memory.FOAM.Windows[0].End = 0x402000 }, "no window"},
		"no FOAM":            {func(s *State) { s.Processes[0].Memory.FOAM.Name = "" }, "without a file"},
		"FOAM elsewhere":     {func(s *State) { s.Processes[0].Memory.FOAM.Name = "../x" }, "no name"},
		"FOAM twice": {func(s *State) {
			s.Memories = []SharedMem{{Size: 1, FOAM: FOAM{"pages-4711.foam", []Window{{0, 1 << 21, 0}}, nil, false, nil}}}
		}, "two address spaces"},
		"across frames": {func(s *State) {
			f := &s.Processes[0].Memory.FOAM
			f.Physical, f.Windows[0].Offset = true, FrameSize-4096
		}, "across a multiple"},
		"half a frame": {func(s *State) { f := &s.Processes[0].Memory.FOAM; f.Physical, f.Windows[0].Offset = true, 100 }, "not page frames"},
		"fallback of less": {func(s *State) {
			m := &s.Processes[0].Memory
			fallback := m.FOAM
			fallback.Extents = fallback.Extents[1:]
			m.FOAM.Physical, m.FOAM.Windows, m.Fallback = true, nil, &fallback
		}, "no window"},
		"hashes of a file": {func(s *State) { s.Processes[0].Memory.FOAM.Hashes = make([]byte, 7*HashSize) }, "in a file"},
		"too few hashes": {func(s *State) {
			f := &s.Processes[0].Memory.FOAM
			f.Physical, f.Windows, f.Extents, f.Hashes = true, []Window{{0x400000, 0x402000, 0x1000}}, []Extent{{0x400000, 0x402000}}, make([]byte, HashSize)
		}, "8 bytes of hashes of pages, instead of 16"},
		"file is FOAM": {func(s *State) { s.Files[0].Regular.Content = "pages-4711.foam" }, "and the bytes of a deleted file"},
		"file is ours": {func(s *State) { s.Files[0].Regular.Content = "manifest" }, "reserved"},
	} {
		t.Run(name, func(t *testing.T) {
			st := minimal()
			if err := Validate(st); err != nil {
				t.Fatal(err)
			}
			c.spoil(st)
			if err := Validate(st); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Validate: %v; it should say %q", err, c.want)
			}
		})
	}
}

func TestExtentsMayGoAcrossTouchingWindows(t *testing.T) {
	f := FOAM{Name: "x", Windows: []Window{{0, 0x200000, 0x400000}, {0x200000, 0x400000, 0}}, Extents: []Extent{{0x1ff000, 0x201000}, {0x300000, 0x301000}}}
	if err := checkFOAM(&f); err != nil {
		t.Fatal(err)
	}
	got := f.runs()
	want := []Extent{{0x5ff000, 0x600000}, {0, 0x1000}, {0x100000, 0x101000}}
	if len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("runs are %x instead of %x", got, want)
	}
}

func TestWeakerProcessorIsRefused(t *testing.T) {
	const all = 0x2e7 // x87, SSE, AVX, AVX-512, PKRU
	for name, c := range map[string]struct {
		host, inUse, here uint64
		pkey              int
		want              string // "" if it is accepted
	}{
		"same":                        {all, all, all, 1, ""},
		"fewer in use":                {3, 3, 7, 0, ""},
		"AVX in use":                  {7, 7, 3, 0, "AVX"},
		"AVX chosen, not in use now":  {7, 3, 3, 0, "AVX"},
		"AVX-512 chosen":              {0xe7, 3, 7, 0, "AVX-512"},
		"protection keys unused":      {0x203, 0x203, 3, 0, ""},
		"protection keys used":        {0x203, 0x203, 3, 1, "protection keys"},
		"AMX there but not in use":    {0x60003, 3, 3, 0, ""},
		"AMX in use":                  {0x60003, 0x60003, 3, 0, "AMX"},
		"something of a later decade": {1 << 40, 1 << 40, 3, 0, "XSAVE feature 40"},
	} {
		t.Run(name, func(t *testing.T) {
			st := minimal()
			st.Host.XCR0 = c.host
			st.Processes[0].Threads[0].XState = xstate(c.inUse)
			st.Processes[0].Memory.VMAs[0].PKey = c.pkey
			err := checkCPU(st, c.here)
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ErrCPU) || !errors.Is(err, ErrNotAcceptable) || !strings.Contains(err.Error(), "use "+c.want+",") {
				t.Errorf("%v; it should name %s", err, c.want)
			}
		})
	}
}

func TestImageForABetterProcessorCanOnlyBeLookedAt(t *testing.T) {
	st := minimal()
	st.Processes[0].Threads[0].XState = xstate(1 << 61)
	dir := write(t, st, true)
	if _, err := Open(dir); !errors.Is(err, ErrCPU) {
		t.Errorf("Open: %v", err)
	}
	if _, err := Inspect(dir); err != nil {
		t.Errorf("Inspect: %v", err)
	}
	if err := Verify(dir, nil); err != nil {
		t.Errorf("Verify: %v", err)
	}
}

func TestThisProcessorHasTheBasics(t *testing.T) {
	if kernel.XCR0()&3 != 3 {
		t.Errorf("XCR0 is %#x: every x86-64 processor with XSAVE has x87 and SSE", kernel.XCR0())
	}
}
