package tracee

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
)

// codeSize is what the loop that executes tables occupies at the start of a seed's area: one page of its own, so that the
// table's pages need not be executable.
const codeSize = 4096

// allSignalsButTrap blocks everything but SIGTRAP: a blocked one would make the kernel reset its disposition at an int3.
const allSignalsButTrap = ^uint64(1 << (5 - 1))

// Seed is a task under construction; see the package comment.
type Seed struct {
	pid  int // of the process
	tid  int
	code uint64 // of the loop that executes tables
	area uint64 // where tables stand
	size int    // of that
	regs kernel.Regs
	self *os.Process // the first seed only, which Go started
}

// Hole is a range of addresses that is free in every address space to be restored.
type Hole struct {
	Addr uint64
	Size int
}

// NewSeed starts a process that holds nothing but the area in the given hole and the kernel's own [vdso] and [vvar]
// mappings, stopped and traced. It has kup's credentials, session and namespaces, and no descriptor that is open to it.
func (t *Tracer) NewSeed(hole Hole) (*Seed, error) {
	s, err := startSeed()
	if err != nil {
		return nil, fmt.Errorf("start a seed process: %w", err)
	}
	if err := s.settle(hole); err != nil {
		s.Kill()
		return nil, fmt.Errorf("prepare seed process %d: %w", s.pid, err)
	}
	return s, nil
}

func startSeed() (*Seed, error) {
	fd, err := kernel.MemfdCreate("kup-seed", 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "kup-seed")
	defer file.Close()
	if _, err := file.Write(seedELF()); err != nil {
		return nil, err
	}
	proc, err := os.StartProcess(fmt.Sprintf("/proc/self/fd/%d", fd), []string{"kup-seed"},
		// Until it is seized, when PTRACE_O_EXITKILL takes over. The calling goroutine keeps its thread.
		&os.ProcAttr{Env: []string{}, Sys: kernel.DieWithParent()})
	if err != nil {
		return nil, err
	}
	s := &Seed{pid: proc.Pid, tid: proc.Pid, self: proc}
	err = kernel.PtraceSeize(s.tid, kernel.PtraceOExitKill|kernel.PtraceOTraceSysGood)
	if err == nil {
		err = kernel.PtraceInterrupt(s.tid)
	}
	if err == nil {
		err = s.awaitStop()
	}
	if err != nil {
		proc.Kill()
		proc.Wait()
		return nil, err
	}
	return s, nil
}

// settle maps the area and makes it the only thing that executes.
func (s *Seed) settle(hole Hole) (err error) {
	if err = kernel.PtraceSetSigMask(s.tid, allSignalsButTrap); err != nil {
		return err
	}
	if s.regs, err = kernel.PtraceGetRegs(s.tid); err != nil {
		return err
	}
	const fixed = kernel.MapPrivate | kernel.MapAnonymous | kernel.MapFixedNoReplace
	table := hole.Addr + codeSize
	_, err = s.one(seedSyscall, kernel.SysMmap, hole.Addr, codeSize, kernel.ProtRead|kernel.ProtExec, fixed, ^uint64(0), 0)
	if err == nil {
		_, err = s.one(seedSyscall, kernel.SysMmap, table, uint64(hole.Size-codeSize), kernel.ProtRead|kernel.ProtWrite, fixed, ^uint64(0), 0)
	}
	if err != nil {
		return fmt.Errorf("map the area at %#x: %w", hole.Addr, err)
	}
	s.code, s.area, s.size = hole.Addr, table, hole.Size-codeSize
	return kernel.PokeMemory(s.pid, s.code, tableLoop())
}

// one executes a single system call by the `syscall; int3` that stands at addr. It is for the time before there is an area.
func (s *Seed) one(addr uint64, nr uint64, a, b, c, d, e, f uint64) (uint64, error) {
	r := s.regs
	setCall(&r, addr, nr, [6]uint64{a, b, c, d, e, f})
	if err := s.runToTrap(&r); err != nil {
		return 0, err
	}
	r, err := kernel.PtraceGetRegs(s.tid)
	if err != nil {
		return 0, err
	}
	if v := int64(r.Rax); v < 0 && v >= -4095 {
		return 0, kernel.Errno(-v)
	}
	return r.Rax, nil
}

// PID returns the process that the seed is a thread of.
func (s *Seed) PID() int { return s.pid }

// TID returns the seed's own thread ID.
func (s *Seed) TID() int { return s.tid }

// Area is where tables of system calls stand in the seed's memory.
func (s *Seed) Area() (addr uint64, size int) { return s.area, s.size }

// Begin starts to execute a table, see Remote.
func (s *Seed) Begin(at uint64, mem []byte, count int) error {
	if err := kernel.WriteMemory(s.tid, at, mem); err != nil {
		return err
	}
	r := s.regs
	setLoop(&r, s.code, at, count)
	return s.run(&r)
}

// End waits until a table is executed, see Remote.
func (s *Seed) End(at uint64, mem []byte) error {
	if err := s.awaitStop(); err != nil {
		return err
	}
	return kernel.ReadMemory(s.tid, at, mem)
}

// Leave executes a table whose last call ends the seed, and reaps it for the tracer. Its real parent still finds a zombie.
func (s *Seed) Leave(b *Batch) error {
	if _, err := place([]*Batch{b}); err != nil {
		return err
	}
	if err := b.start(); err != nil {
		return err
	}
	return s.awaitEnd()
}

// DieOf ends the seed by a signal of default disposition and reaps it for the tracer.
func (s *Seed) DieOf(sig kernel.Signal) error {
	if err := kernel.PtraceSetSigMask(s.tid, 0); err != nil {
		return err
	}
	if sig == kernel.SIGKILL {
		if err := kernel.Kill(s.pid, sig); err != nil {
			return err
		}
		return s.awaitEnd()
	}
	if err := kernel.TgKill(s.pid, s.tid, sig); err != nil {
		return err
	}
	if err := kernel.PtraceCont(s.tid, 0); err != nil {
		return err
	}
	if err := s.awaitStop(); err != nil {
		return err
	}
	if err := kernel.PtraceCont(s.tid, sig); err != nil {
		return err
	}
	return s.awaitEnd()
}

// runToTrap continues the seed with the given registers to its int3.
func (s *Seed) runToTrap(r *kernel.Regs) error {
	if err := s.run(r); err != nil {
		return err
	}
	return s.awaitStop()
}

// run continues the seed with the given registers.
func (s *Seed) run(r *kernel.Regs) error {
	if err := kernel.PtraceSetRegs(s.tid, r); err != nil {
		return fmt.Errorf("seed %d: set registers: %w", s.tid, err)
	}
	if err := kernel.PtraceCont(s.tid, 0); err != nil {
		return fmt.Errorf("seed %d: continue: %w", s.tid, err)
	}
	return nil
}

// awaitStop waits until the seed stops at its trap, or for the first time.
func (s *Seed) awaitStop() error {
	_, status, err := kernel.Wait(s.tid, false)
	switch {
	case err != nil:
		return fmt.Errorf("seed %d: wait: %w", s.tid, err)
	case status.Exited() || status.Signaled():
		return fmt.Errorf("seed %d ended while it was built (wait status %#x): %w", s.tid, uint32(status), errSeedLost)
	case status.StopSignal() == kernel.SIGSEGV || status.StopSignal() == kernel.SIGBUS:
		r, _ := kernel.PtraceGetRegs(s.tid)
		return fmt.Errorf("seed %d: %v at %#x while it was built: %w", s.tid, status.StopSignal(), r.Rip, errSeedLost)
	}
	return nil
}

func (s *Seed) awaitEnd() error { return awaitEnd(s.tid) }

func awaitEnd(tid int) error {
	for {
		_, status, err := kernel.Wait(tid, false)
		if err != nil {
			return fmt.Errorf("seed %d: wait for its end: %w", tid, err)
		}
		if status.Exited() || status.Signaled() {
			return nil
		}
		if err := kernel.PtraceCont(tid, 0); err != nil {
			return fmt.Errorf("seed %d: continue to its end: %w", tid, err)
		}
	}
}

var errSeedLost = errors.New("a restored process was lost")

// Kill ends the seed's process and reaps it as far as it is ours: first the other threads, whoever made them, since the leader's end is only reported after
// theirs.
func (s *Seed) Kill() {
	threads, _ := procfs.Threads(s.pid) // none if it has ended
	kernel.Kill(s.pid, kernel.SIGKILL)
	for _, tid := range threads {
		if tid != s.pid {
			awaitEnd(tid)
		}
	}
	awaitEnd(s.pid)
}

// CloneOptions says what kind of task Clone makes.
type CloneOptions struct {
	ID     int    // process or thread ID; 0 for any
	Flags  uint64 // CLONE_*; CLONE_PTRACE is added
	Signal int    // exit signal of a process
}

// Clone makes a child process or, with CLONE_THREAD, another thread, born stopped and traced, with the same area.
// EEXIST means that the ID is taken.
func (s *Seed) Clone(o CloneOptions) (*Seed, error) {
	var tid int
	err := untilFree(func() error {
		b := NewBatch(s)
		r := b.clone(o)
		err := b.Run()
		tid = int(r.Value())
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.adopt(o, tid)
}

// lingering is how long the ID of a task that has ended may still be taken, when nobody sees the task any more: since v6.15 the kernel frees it after the
// parent could know (kernel/exit.c, release_task).
const lingering = time.Second

// untilFree makes tasks until their IDs are free, or EEXIST is final.
func untilFree(try func() error) error {
	for deadline := time.Now().Add(lingering); ; time.Sleep(time.Millisecond) {
		if err := try(); !errors.Is(err, kernel.EEXIST) || time.Now().After(deadline) {
			return err
		}
	}
}

// CloneThreads makes threads with the given IDs, with as few stops as the area allows.
func (s *Seed) CloneThreads(tids []int, flags uint64) ([]*Seed, error) {
	left := tids
	err := untilFree(func() (err error) {
		left, err = s.tryThreads(left, flags)
		return err
	})
	if err != nil {
		return nil, err
	}
	var seeds []*Seed
	for _, tid := range tids {
		seed, err := s.adopt(CloneOptions{ID: tid, Flags: flags}, tid)
		if err != nil {
			return nil, err
		}
		seeds = append(seeds, seed)
	}
	return seeds, nil
}

// tryThreads makes those threads whose IDs are free. The others it returns, with EEXIST.
func (s *Seed) tryThreads(tids []int, flags uint64) (taken []int, err error) {
	for len(tids) > 0 {
		b := NewBatch(s)
		var made []*Result
		for len(made) < len(tids) && !b.Full() {
			made = append(made, b.clone(CloneOptions{ID: tids[len(made)], Flags: flags}))
		}
		if failed := b.Run(); failed != nil && !errors.Is(failed, kernel.EEXIST) {
			return nil, failed
		} else if failed != nil {
			err = failed
		}
		for i, r := range made {
			switch {
			case errors.Is(r.Err(), kernel.EEXIST):
				taken = append(taken, tids[i])
			case r.Err() != nil:
				return nil, r.Err()
			}
		}
		tids = tids[len(made):]
	}
	return taken, err
}

// clone adds a clone3(2) to the batch.
func (b *Batch) clone(o CloneOptions) *Result {
	args := make([]uint64, 11) // struct clone_args, CLONE_ARGS_SIZE_VER2
	args[0] = o.Flags | kernel.ClonePtrace
	args[4] = uint64(o.Signal)
	args[9] = 1 // set_tid_size
	if o.ID == 0 {
		args[9] = 0
	}
	buf := b.Words(args...)
	if o.ID != 0 {
		buf.Point(8*8, b.Words(uint64(o.ID)))
	}
	return b.Must(fmt.Sprintf("make task %d", o.ID), kernel.SysClone3, buf, len(buf.Data))
}

// adopt waits for the first stop of a task that the seed has cloned.
func (s *Seed) adopt(o CloneOptions, tid int) (*Seed, error) {
	child := &Seed{pid: tid, tid: tid, code: s.code, area: s.area, size: s.size, regs: s.regs}
	if o.Flags&kernel.CloneThread != 0 {
		child.pid = s.pid
	}
	return child, child.awaitStop()
}

// Final is what a restored task begins to run with.
type Final struct {
	Regs    kernel.Regs
	XState  []byte
	SigMask uint64
}

// DropArea unmaps the area by a system call instruction that stands at addr, outside of it. No thread of the process can
// execute tables after that.
func (s *Seed) DropArea(addr uint64) error {
	r := s.regs
	setCall(&r, addr, kernel.SysMunmap, [6]uint64{s.code, uint64(codeSize + s.size)})
	if err := kernel.PtraceSetRegs(s.tid, &r); err != nil {
		return err
	}
	for range 2 { // entry and exit
		if err := kernel.PtraceSyscall(s.tid, 0); err != nil {
			return err
		}
		if err := s.awaitStop(); err != nil {
			return err
		}
	}
	r, err := kernel.PtraceGetRegs(s.tid)
	if err != nil {
		return err
	}
	if r.Rax != 0 {
		return fmt.Errorf("unmap the area of pid %d: %w", s.pid, kernel.Errno(-int64(r.Rax)))
	}
	// From this stop, at the exit of a system call, the kernel would not restart the interrupted call that the final registers
	// may hold; from the stop of an interrupt it does (arch/x86/kernel/signal.c, arch_do_signal_or_restart).
	if err := kernel.PtraceInterrupt(s.tid); err != nil {
		return err
	}
	if err := kernel.PtraceCont(s.tid, 0); err != nil {
		return err
	}
	return s.awaitStop()
}

// Finish gives the task its final state. It stays stopped until Release.
func (s *Seed) Finish(f Final) error {
	if err := kernel.PtraceSetRegset(s.tid, kernel.NTX86XState, f.XState); err != nil {
		return fmt.Errorf("tid %d: set the extended registers: %w", s.tid, err)
	}
	if err := kernel.PtraceSetRegs(s.tid, &f.Regs); err != nil {
		return fmt.Errorf("tid %d: set the registers: %w", s.tid, err)
	}
	if err := kernel.PtraceSetSigMask(s.tid, f.SigMask); err != nil {
		return fmt.Errorf("tid %d: set the signal mask: %w", s.tid, err)
	}
	return nil
}

// Survive lets the task live on when kup dies from now on.
func (s *Seed) Survive() error { return kernel.PtraceSetOptions(s.tid, 0) }

// Release lets the finished task run.
func (s *Seed) Release() error { return kernel.PtraceDetach(s.tid, 0) }
