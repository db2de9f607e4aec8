package image

import (
	"fmt"
	"slices"
)

const (
	pageSize      = 4096
	registersSize = 27 * 8 // struct user_regs_struct
	sigInfoSize   = 128
	maxSignals    = 64 // _NSIG
	maxLimits     = 16 // RLIM_NLIMITS
)

// Validate checks that a state is consistent in itself: what restore relies on without looking again. Hashes protect against bit rot;
// this protects against bugs, ours of yesterday included.
func Validate(st *State) error {
	v := validator{st: st, files: map[int]*OpenFile{}, pipes: map[int]bool{}, memories: map[int]*SharedMem{}}
	for _, check := range []func() error{v.sharedMemories, v.pipesOnce, v.openFiles, v.epolls, v.processes, v.contentNames} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

type validator struct {
	st       *State
	files    map[int]*OpenFile
	pipes    map[int]bool
	memories map[int]*SharedMem
}

func (v *validator) sharedMemories() error {
	for i := range v.st.Memories {
		m := &v.st.Memories[i]
		if v.memories[m.ID] != nil {
			return fmt.Errorf("shared memory %d appears twice", m.ID)
		}
		v.memories[m.ID] = m
		if err := checkFOAMs(&m.FOAM, m.Fallback); err != nil {
			return fmt.Errorf("shared memory %d (%s): %w", m.ID, m.Name, err)
		}
		unit := max(m.Huge, pageSize)
		if n := len(m.FOAM.Extents); n > 0 && m.FOAM.Extents[n-1].End > (m.Size+unit-1)/unit*unit {
			return fmt.Errorf("shared memory %d (%s): contents at %#x lie behind its end at %#x", m.ID, m.Name, m.FOAM.Extents[n-1].End, m.Size)
		}
	}
	return nil
}

func (v *validator) pipesOnce() error {
	for _, p := range v.st.Pipes {
		if v.pipes[p.ID] {
			return fmt.Errorf("pipe %d appears twice", p.ID)
		}
		v.pipes[p.ID] = true
	}
	return nil
}

func (v *validator) openFiles() error {
	for i := range v.st.Files {
		f := &v.st.Files[i]
		if v.files[f.ID] != nil {
			return fmt.Errorf("file %d appears twice", f.ID)
		}
		v.files[f.ID] = f
		if err := checkKind(f); err != nil {
			return fmt.Errorf("file %d: %w", f.ID, err)
		}
		if f.Kind == KindPipe && !v.pipes[f.Pipe.Pipe] {
			return fmt.Errorf("file %d: there is no pipe %d", f.ID, f.Pipe.Pipe)
		}
		if f.Kind == KindMemfd && v.memories[f.Memfd.Memory] == nil {
			return fmt.Errorf("file %d: there is no shared memory %d", f.ID, f.Memfd.Memory)
		}
	}
	return nil
}

// checkKind checks that exactly the part is set that Kind names.
func checkKind(f *OpenFile) error {
	parts := map[FileKind]bool{
		KindRegular: f.Regular != nil, KindDevice: f.Device != nil, KindMemfd: f.Memfd != nil, KindPipe: f.Pipe != nil,
		KindEventFD: f.Event != nil, KindEpoll: f.Epoll != nil, KindTimerFD: f.Timer != nil, KindSignalFD: f.Signal != nil,
		KindUnix: f.Unix != nil, KindTCP: f.TCP != nil, KindUDP: f.UDP != nil, KindMPTCP: f.MPTCP != nil,
	}
	set, known := parts[f.Kind]
	if !known {
		return fmt.Errorf("%q is no kind of file", f.Kind)
	}
	if !set {
		return fmt.Errorf("its kind is %s, and there is nothing about that", f.Kind)
	}
	for kind, set := range parts {
		if set && kind != f.Kind {
			return fmt.Errorf("its kind is %s, and it has a part about a %s", f.Kind, kind)
		}
	}
	return nil
}

func (v *validator) epolls() error {
	for _, f := range v.st.Files {
		if f.Kind != KindEpoll {
			continue
		}
		for _, t := range f.Epoll.Targets {
			if v.files[t.File] == nil {
				return fmt.Errorf("file %d: the epoll instance watches file %d, which there is not", f.ID, t.File)
			}
		}
	}
	return nil
}

func (v *validator) processes() error {
	pids, tids := map[int]bool{}, map[int]bool{}
	all := map[int]bool{}
	for _, p := range v.st.Processes {
		all[p.PID] = true
	}
	live := false
	for i := range v.st.Processes {
		p := &v.st.Processes[i]
		name := fmt.Sprintf("pid %d (%s)", p.PID, p.Comm)
		if p.PID <= 0 || pids[p.PID] {
			return fmt.Errorf("%s: appears twice, or is no process ID", name)
		}
		if all[p.PPID] && !pids[p.PPID] {
			return fmt.Errorf("%s: comes before its parent %d", name, p.PPID)
		}
		pids[p.PID] = true
		var err error
		switch p.State {
		case Running, Stopped:
			live = true
			err = v.process(p, tids)
		case Zombie:
		default:
			err = fmt.Errorf("%q is no state of a process", p.State)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if !live {
		return fmt.Errorf("there is no live process in it")
	}
	return nil
}

// process checks a live process.
func (v *validator) process(p *Process, tids map[int]bool) error {
	if len(p.Threads) == 0 || p.Threads[0].TID != p.PID {
		return fmt.Errorf("its first thread is not its leader")
	}
	for i := range p.Threads {
		t := &p.Threads[i]
		if t.TID <= 0 || tids[t.TID] {
			return fmt.Errorf("thread %d appears twice, or is no thread ID", t.TID)
		}
		tids[t.TID] = true
		if err := checkThread(t); err != nil {
			return fmt.Errorf("thread %d: %w", t.TID, err)
		}
	}
	if len(p.Actions) > maxSignals || len(p.Limits) > maxLimits {
		return fmt.Errorf("it has %d signal actions and %d limits; the kernel knows %d and %d", len(p.Actions), len(p.Limits), maxSignals, maxLimits)
	}
	if err := checkSigInfos(p.Pending); err != nil {
		return err
	}
	nums := map[int]bool{}
	for _, fd := range p.FDs {
		if fd.Num < 0 || nums[fd.Num] {
			return fmt.Errorf("fd %d: appears twice, or is no descriptor", fd.Num)
		}
		nums[fd.Num] = true
		if v.files[fd.File] == nil {
			return fmt.Errorf("fd %d: there is no file %d", fd.Num, fd.File)
		}
	}
	for _, l := range p.Locks {
		if !nums[l.FD] {
			return fmt.Errorf("a record lock belongs to fd %d, which is not open", l.FD)
		}
	}
	return v.memory(&p.Memory)
}

func checkThread(t *Thread) error {
	if err := checkSigInfos(t.Pending); err != nil {
		return err
	}
	if len(t.Registers) != registersSize {
		return fmt.Errorf("its registers take %d bytes instead of %d", len(t.Registers), registersSize)
	}
	if len(t.XState) < xstateMin {
		return fmt.Errorf("its XSTATE takes %d bytes, and the least there is takes %d", len(t.XState), xstateMin)
	}
	return nil
}

func checkSigInfos(infos []SigInfo) error {
	for _, s := range infos {
		if len(s.Raw) != sigInfoSize {
			return fmt.Errorf("a pending signal's siginfo takes %d bytes instead of %d", len(s.Raw), sigInfoSize)
		}
	}
	return nil
}

func (v *validator) memory(m *Memory) error {
	var last uint64
	for _, a := range m.VMAs {
		if a.Start < last || a.Start >= a.End || a.Start%pageSize != 0 || a.End%pageSize != 0 {
			return fmt.Errorf("mapping %#x-%#x: not whole pages, empty, or out of order", a.Start, a.End)
		}
		last = a.End
		if a.Kind == VMAShared && v.memories[a.Object] == nil {
			return fmt.Errorf("mapping %#x-%#x: there is no shared memory %d", a.Start, a.End, a.Object)
		}
		if err := checkAscending(a.Guards); err != nil {
			return fmt.Errorf("mapping %#x-%#x: guard pages: %w", a.Start, a.End, err)
		}
	}
	if err := checkFOAMs(&m.FOAM, m.Fallback); err != nil {
		return err
	}
	if err := checkHot(m.Hot); err != nil {
		return err
	}
	mapped := make([]Extent, 0, len(m.VMAs))
	for _, a := range m.VMAs {
		mapped = append(mapped, Extent{a.Start, a.End})
	}
	if e, ok := uncovered(m.FOAM.Extents, mapped); ok {
		return fmt.Errorf("%s: contents of %#x-%#x, where nothing is mapped", m.FOAM.Name, e.Start, e.End)
	}
	return nil
}

// checkFOAMs checks a FOAM and its fallback, if it has one: a file with the same contents.
func checkFOAMs(main, fallback *FOAM) error {
	if err := checkFOAM(main); err != nil || fallback == nil {
		return err
	}
	if fallback.Physical || !slices.Equal(main.Extents, fallback.Extents) {
		return fmt.Errorf("%s: what it is to fall back to is no file, or holds something else", main.Name)
	}
	return checkFOAM(fallback)
}

// checkFOAM checks windows and extents of one FOAM file.
func checkFOAM(f *FOAM) error {
	if f.Name == "" && len(f.Extents) > 0 {
		return fmt.Errorf("contents without a file")
	}
	var last uint64
	covered := make([]Extent, 0, len(f.Windows))
	for _, w := range f.Windows {
		// Less than half of what a file offset can express leaves sums without overflow.
		if w.Start < last || w.Start >= w.End || w.Offset > 1<<61 || w.End-w.Start > 1<<61 {
			return fmt.Errorf("%s: window %#x-%#x at %#x: empty, too large, or out of order", f.Name, w.Start, w.End, w.Offset)
		}
		last = w.End
		covered = append(covered, Extent{w.Start, w.End})
	}
	if err := checkOffsets(f.Windows); err != nil && !f.Physical { // two pages that are the same may be in one frame
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	if err := checkAscending(f.Extents); err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	if e, ok := uncovered(f.Extents, covered); ok {
		return fmt.Errorf("%s: contents of %#x-%#x lie in no window", f.Name, e.Start, e.End)
	}
	if err := f.checkHashes(); err != nil {
		return err
	}
	return f.checkPhysical()
}

// checkHot checks the form of Memory.Hot. What it covers need not be stored.
func checkHot(lists [][]Extent) error {
	if len(lists) > HotLists {
		return fmt.Errorf("it has %d lists of hot pages; there are at most %d", len(lists), HotLists)
	}
	for _, list := range lists {
		if len(list) > HotExtents {
			return fmt.Errorf("it has %d extents in a list of hot pages; there are at most %d", len(list), HotExtents)
		}
		if err := checkAscending(list); err != nil {
			return fmt.Errorf("hot pages: %w", err)
		}
	}
	return nil
}

// checkAscending checks that extents are whole pages in order and do not overlap.
func checkAscending(extents []Extent) error {
	var last uint64
	for _, e := range extents {
		if e.Start < last || e.Start >= e.End || e.Start%pageSize != 0 || e.End%pageSize != 0 {
			return fmt.Errorf("extent %#x-%#x: not whole pages, empty, or out of order", e.Start, e.End)
		}
		last = e.End
	}
	return nil
}

// uncovered returns the first of the extents that is not wholly covered. Both lists ascend.
func uncovered(extents, cover []Extent) (Extent, bool) {
	i := 0
	for _, e := range extents {
		at := e.Start
		for at < e.End {
			for i < len(cover) && cover[i].End <= at {
				i++
			}
			if i == len(cover) || cover[i].Start > at {
				return e, true
			}
			at = min(e.End, cover[i].End)
		}
	}
	return Extent{}, false
}
