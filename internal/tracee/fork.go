package tracee

import (
	"errors"
	"fmt"
	"math"

	"github.com/kup-project/kup/internal/kernel"
)

// Holder keeps the private memory of a process as it was at one instant, while the process runs on: a copy-on-write copy, and a task of ours that owns it and
// never executes anything. It dies with kup.
//
// A process can only be copied by itself, so the copy is born as its child, and must not stay that: the process would see it when it waits for its children, and
// find a zombie if kup died. So the child, the *first*, is ours from birth, shares its memory with a second task, the *holder*, and ends; the process is made to reap it
// before it runs again. The holder is an orphan then, the business of init or of the nearest subreaper.
//
//	process --clone--> first (no exit signal) --clone(CLONE_VM)--> holder
//	   |                 | ends                                      | stopped since its birth, until Release
//	   | waitid <--------+                                           v
//	   v runs on                                          /proc/HOLDER/mem: the process's memory then
//
// If kup dies, at any instant: both die with it (PTRACE_O_EXITKILL, which the holder inherits), and the clean-up of the injection, armed before, reaps the first. There
// is one gap, from the birth of the first until that option is set. In it the first is not stopped any more, but goes on with the process's own
// table, whose next calls mean nothing in the process and end the child; see fork.
//
// All that the process can notice is what getrusage(2) adds up of its children.
type Holder struct{ seed *Seed }

// holderName is what the holder is called in lists of processes.
const holderName = "kup-holder"

// Fork copies the private memory of the process. The copy has none of its shared mappings and descriptors, and nothing of what madvise(2) keeps
// from children; it is in a session of its own. It costs the process some 14 ms per GB of small pages. It uses the clean-up table, and leaves
// nothing in it that matters.
//
// The process must not be a subreaper or have an ancestor among the frozen that is one, which would inherit the copy, and its children must be in its own PID namespace.
func (i *Injection) Fork() (*Holder, error) {
	first, err := i.fork()
	if err != nil {
		return nil, err
	}
	holder, err := first.share(i.task.process)
	first.Kill()
	crashPoint("first ended")
	if err == nil {
		err = i.reap(first)
	}
	if err != nil && holder != nil {
		holder.Release()
	}
	if err != nil {
		return nil, fmt.Errorf("%v: copy its memory: %w", i.task.process, err)
	}
	return holder, nil
}

// fork makes the first.
//
// The calls behind clone(2) are what the child does if kup dies before it is ours: it must end, or it would run as a second application. process_vm_readv of nothing
// returns 0 without flags, as in the child, and EINVAL with any, as in the process. getrandom with flags 0 returns how many bytes it was asked for, the number of exit_group(2), and EINVAL with those.
// A number that is an error is no system call. There is nothing to fail in the child: the bytes go to a page that it has just written to.
func (i *Injection) fork() (*Seed, error) {
	undo := i.Cleanup()
	undo.Call(kernel.SysWaitid, kernel.WaitPID, i.PID(), 0, kernel.WaitExited|kernel.WaitAll, 0) // not a child of its own
	if err := undo.Run(); err != nil {
		return nil, err
	}
	const idArgument = 1
	b := NewBatch(i)
	child := b.Call(kernel.SysClone, kernel.ClonePtrace, 0, 0, 0, 0)
	child.StoreAt(i.CleanupArgument(0, idArgument))
	zero := b.Call(kernel.SysProcessVmReadv, 0, 0, 0, 0, 0, child)
	exit := b.Call(kernel.SysGetrandom, b.Space(kernel.SysExitGroup), kernel.SysExitGroup, zero)
	b.CallResult(exit)
	if err := b.Run(); err != nil {
		return nil, err
	}
	if err := child.Err(); err != nil {
		return nil, fmt.Errorf("%v: fork a copy of its memory: %w; %s", i.task.process, err, forkRemedy(err))
	}
	crashPoint("forked")
	first, err := i.adopt(int(child.Value()))
	if err != nil {
		return nil, errors.Join(err, i.reap(first))
	}
	return first, nil
}

func forkRemedy(err error) string {
	if errors.Is(err, kernel.EAGAIN) {
		return "raise the number of processes that its user (RLIMIT_NPROC) or control group (pids.max) may have, or checkpoint it without a fork"
	}
	return "let the kernel promise more memory (vm.overcommit_memory), or checkpoint it without a fork"
}

// adopt makes a stopped child of the process a task under construction, which dies with kup. In any case the child is returned; after an error it is dead.
func (i *Injection) adopt(pid int) (*Seed, error) {
	addr, size := i.Area()
	s := &Seed{pid: pid, tid: pid, code: i.task.process.vdso.tail, area: addr, size: size}
	err := s.awaitStop()
	if err == nil {
		err = kernel.PtraceSetOptions(pid, kernel.PtraceOExitKill|kernel.PtraceOTraceSysGood)
	}
	crashPoint("first dies with kup")
	if err == nil {
		err = kernel.PtraceSetSigMask(pid, allSignalsButTrap)
	}
	if err == nil {
		s.regs, err = kernel.PtraceGetRegs(pid)
	}
	if err == nil {
		err = kernel.PokeMemory(pid, s.code, tableLoop()) // over the blob, in the child's own copy
	}
	if err != nil {
		s.Kill()
	}
	return s, err
}

// share makes the holder of a seed's memory, and takes everything from both that the process shares with them: others could tell that a pipe still has a writer, a
// segment another user, a file system a visitor.
func (s *Seed) share(p *Process) (*Holder, error) {
	b := NewBatch(s)
	b.Must("take a name", kernel.SysPrctl, kernel.PrSetName, b.String(holderName))
	b.Must("leave the session", kernel.SysSetsid)
	b.Must("leave the directory", kernel.SysChdir, b.String("/"))
	b.Must("close all descriptors", kernel.SysCloseRange, 0, uint32(math.MaxUint32), 0)
	for i := range p.Maps {
		if m := &p.Maps[i]; m.Shared {
			b.Must("unmap "+m.String(), kernel.SysMunmap, m.Start, m.Size())
		}
		if b.Full() {
			if err := b.Run(); err != nil {
				return nil, err
			}
		}
	}
	if err := b.Run(); err != nil {
		return nil, err
	}
	crashPoint("first prepared")
	seed, err := s.Clone(CloneOptions{Flags: kernel.CloneVM})
	if err != nil {
		return nil, err
	}
	crashPoint("holder born")
	return &Holder{seed}, nil
}

// reap makes the process take the end of its child, which has come.
func (i *Injection) reap(child *Seed) error {
	b := NewBatch(i)
	b.Must("take the end of the copying child", kernel.SysWaitid, kernel.WaitPID, child.pid, 0, kernel.WaitExited|kernel.WaitAll, 0)
	err := b.Run()
	crashPoint("first reaped")
	return err
}

// PID is whose memory to read.
func (h *Holder) PID() int { return h.seed.pid }

// Release gives the memory back.
func (h *Holder) Release() { h.seed.Kill() }
