package task

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/tracee"
)

// The order of a rebuild, for each process: RebuildProcess while it has one thread (directories, signal actions: what was queued while
// it was built is flushed), then its threads are cloned, then Limits and Timers, then RebuildThreads, which ends with the
// credentials, since all before them may need privileges, and Queue, which puts pending signals back.

// RebuildProcess gives the first thread of a seed what all threads share.
func RebuildProcess(p *image.Process, s *tracee.Seed) error {
	if err := writeInt(procfs.Path(p.PID, "coredump_filter"), int(p.CoreFilter), "%#x"); err != nil {
		return err
	}
	b := tracee.NewBatch(s)
	if p.Root.Path != "/" {
		b.Must("change root to "+p.Root.Path, kernel.SysChroot, b.String(p.Root.Path))
	}
	cwd := p.Cwd.Path
	if p.Root.Path != "/" && len(cwd) > len(p.Root.Path) && cwd[:len(p.Root.Path)] == p.Root.Path {
		cwd = cwd[len(p.Root.Path):]
	} else if cwd == p.Root.Path {
		cwd = "/"
	}
	b.Must("change directory to "+p.Cwd.Path, kernel.SysChdir, b.String(cwd))
	b.Must("set the umask", kernel.SysUmask, p.Umask)
	if p.Subreaper {
		b.Must("become a subreaper", kernel.SysPrctl, kernel.PrSetChildSubreaper, 1)
	}
	if p.THPDisable {
		b.Must("disable huge pages", kernel.SysPrctl, kernel.PrSetTHPDisable, 1, 0, 0, 0)
	}
	ignore := b.Words(1, 0, 0, 0) // SIG_IGN, which drops what is queued
	for i, a := range p.Actions {
		sig := kernel.Signal(i + 1)
		if sig == kernel.SIGKILL || sig == kernel.SIGSTOP {
			continue
		}
		b.Must("flush signals", kernel.SysRtSigaction, sig, ignore, 0, 8)
		b.Must("set a signal action", kernel.SysRtSigaction, sig, b.Words(a.Handler, a.Flags, a.Restorer, a.Mask), 0, 8)
	}
	return b.Run()
}

func writeInt(path string, value int, format string) error {
	return os.WriteFile(path, fmt.Appendf(nil, format, value), 0)
}

// Limits sets the resource limits and the OOM score that differ from what the seed has from kup. Raising them takes
// CAP_SYS_RESOURCE.
func Limits(p *image.Process, s *tracee.Seed) error {
	now, err := procfs.ReadLimits(p.PID)
	if err != nil {
		return err
	}
	b := tracee.NewBatch(s)
	for resource, l := range p.Limits {
		if resource < len(now) && image.Limit(now[resource]) == l {
			continue
		}
		b.Must(fmt.Sprintf("set resource limit %d to %d, %d", resource, int64(l.Soft), int64(l.Hard)),
			kernel.SysPrlimit64, 0, resource, b.Words(l.Soft, l.Hard), 0)
	}
	if err := b.Run(); err != nil {
		return err
	}
	score, err := readInt(procfs.Path(p.PID, "oom_score_adj"), 10)
	if err != nil || score == p.OOMScoreAdj {
		return err
	}
	if err := writeInt(procfs.Path(p.PID, "oom_score_adj"), p.OOMScoreAdj, "%d"); err != nil {
		return fmt.Errorf("pid %d: set oom_score_adj to %d: %w", p.PID, p.OOMScoreAdj, err)
	}
	return nil
}

// Timers makes and starts the interval and POSIX timers. All threads exist.
func Timers(p *image.Process, s *tracee.Seed) error {
	timers := slices.Clone(p.Timers)
	slices.SortFunc(timers, func(a, b image.PosixTimer) int { return a.ID - b.ID })
	for _, t := range timers {
		if err := createTimer(s, t); err != nil {
			return err
		}
	}
	b := tracee.NewBatch(s)
	for _, t := range timers {
		b.Must(fmt.Sprintf("start timer %d", t.ID), kernel.SysTimerSettime, t.ID, 0, intervalWords(b, t.Time, 1), 0)
	}
	for which, t := range p.ITimers {
		if t != (image.ITimer{}) {
			b.Must("start an interval timer", kernel.SysSetitimer, which, intervalWords(b, t, 1000), 0)
		}
	}
	return b.Run()
}

func intervalWords(b *tracee.Batch, t image.ITimer, unit int64) *tracee.Buffer {
	split := func(ns int64) (uint64, uint64) { return uint64(ns / 1e9), uint64(ns % 1e9 / unit) }
	value := t.Value
	if value > 0 && value < unit {
		value = unit // not yet expired: 0 would disarm
	}
	is, in := split(t.Interval)
	vs, vn := split(value)
	return b.Words(is, in, vs, vn)
}

// createTimer makes a timer with its old ID: directly where the kernel can (since v6.15), else by using IDs up.
func createTimer(s *tracee.Seed, t image.PosixTimer) error {
	const tries = 1 << 16
	for range tries {
		b := tracee.NewBatch(s)
		event := b.Space(64) // sigevent
		binary.LittleEndian.PutUint64(event.Data, t.Value)
		binary.LittleEndian.PutUint32(event.Data[8:], uint32(t.Signal))
		binary.LittleEndian.PutUint32(event.Data[12:], uint32(t.Notify))
		binary.LittleEndian.PutUint32(event.Data[16:], uint32(t.TID))
		id := b.Space(8)
		binary.LittleEndian.PutUint32(id.Data, uint32(t.ID))
		b.Call(kernel.SysPrctl, kernel.PrTimerCreateRestoreIDs, 1, 0, 0, 0)
		b.Must(fmt.Sprintf("make timer %d", t.ID), kernel.SysTimerCreate, t.Clock, event, id)
		b.Call(kernel.SysPrctl, kernel.PrTimerCreateRestoreIDs, 0, 0, 0, 0)
		if err := b.Run(); err != nil {
			return err
		}
		got := int(int32(id.Word(0)))
		if got == t.ID {
			return nil
		}
		b.Must("delete a timer", kernel.SysTimerDelete, got)
		if err := b.Run(); err != nil {
			return err
		}
		if got > t.ID {
			break
		}
	}
	return fmt.Errorf("pid %d: no timer with ID %d could be made", s.PID(), t.ID)
}

// RebuildThreads gives the seeds of a process, which still have kup's credentials, what each thread has of its own.
func RebuildThreads(p *image.Process, seeds []*tracee.Seed) error {
	now, err := procfs.ReadStatus(p.PID)
	if err != nil {
		return err
	}
	batches := make([]*tracee.Batch, len(seeds))
	for i, s := range seeds {
		batches[i] = tracee.NewBatch(s)
		if err := rebuildThread(&p.Threads[i], batches[i], &now); err != nil {
			return err
		}
	}
	return tracee.RunAll(batches)
}

func rebuildThread(t *image.Thread, b *tracee.Batch, now *procfs.Status) error {
	b.Must("set the name", kernel.SysPrctl, kernel.PrSetName, b.String(t.Comm))
	b.Must("set the personality", kernel.SysPersonality, t.Personality)
	b.Must("set the thread ID address", kernel.SysSetTidAddress, t.ClearTID)
	if t.AltStack.SP != 0 || t.AltStack.Flags != 0 {
		b.Must("set the alternate stack", kernel.SysSigaltstack, b.Words(t.AltStack.SP, uint64(uint32(t.AltStack.Flags)), t.AltStack.Size), 0)
	}
	if t.Robust.Head != 0 {
		b.Must("set the robust list", kernel.SysSetRobustList, t.Robust.Head, t.Robust.Len)
	}
	if t.Rseq.Addr != 0 {
		b.Must("register restartable sequences", kernel.SysRseq, t.Rseq.Addr, t.Rseq.Size, t.Rseq.Flags, t.Rseq.Signature)
	}
	b.Must("set the timer slack", kernel.SysPrctl, kernel.PrSetTimerSlack, t.TimerSlack)
	const tscDefault, mceDefault = 1, 2 // PR_TSC_ENABLE, PR_MCE_KILL_DEFAULT
	if t.TSC != tscDefault {
		b.Must("set the TSC mode", kernel.SysPrctl, kernel.PrSetTSC, t.TSC)
	}
	if t.MCEKill != mceDefault {
		b.Must("set the MCE policy", kernel.SysPrctl, kernel.PrMCEKill, kernel.PrMCEKillSet, t.MCEKill, 0, 0)
	}
	scheduling(b, t)
	return credentials(t, b, now)
}

func scheduling(b *tracee.Batch, t *image.Thread) {
	// The processors of another machine, or of this one after a change, may be others: the kernel takes those that exist, and an
	// error means that none does.
	b.Call(kernel.SysSchedSetaffinity, 0, len(t.Affinity), b.Bytes(slices.Clone(t.Affinity)))
	attr := b.Space(kernel.SchedAttrSize)
	le := binary.LittleEndian
	le.PutUint32(attr.Data, kernel.SchedAttrSize)
	le.PutUint32(attr.Data[4:], t.Sched.Policy)
	le.PutUint64(attr.Data[8:], t.Sched.Flags)
	le.PutUint32(attr.Data[16:], uint32(t.Sched.Nice))
	le.PutUint32(attr.Data[20:], t.Sched.Priority)
	le.PutUint64(attr.Data[24:], t.Sched.Runtime)
	le.PutUint64(attr.Data[32:], t.Sched.Deadline)
	le.PutUint64(attr.Data[40:], t.Sched.Period)
	b.Must("set the scheduling policy", kernel.SysSchedSetattr, 0, attr, 0)
	const who = 1 // IOPRIO_WHO_PROCESS
	if t.IOPrio != 0 {
		b.Must("set the I/O priority", kernel.SysIoprioSet, who, 0, t.IOPrio)
	}
}

// Queue puts pending signals back in order: the process's own by its first thread, and each thread's.
func Queue(p *image.Process, seeds []*tracee.Seed) error {
	for i, s := range seeds {
		b := tracee.NewBatch(s)
		if i == 0 {
			for _, info := range p.Pending {
				b.Must("queue a signal", kernel.SysRtSigqueueinfo, p.PID, signo(info), b.Bytes(slices.Clone(info.Raw)))
			}
		}
		for _, info := range p.Threads[i].Pending {
			b.Must("queue a signal", kernel.SysRtTgsigqueueinfo, p.PID, s.TID(), signo(info), b.Bytes(slices.Clone(info.Raw)))
		}
		if err := b.Run(); err != nil {
			return err
		}
	}
	return nil
}

func signo(info image.SigInfo) uint32 { return binary.LittleEndian.Uint32(info.Raw) }

// Last sets what the change of credentials has reset: it comes after all threads have theirs.
func Last(p *image.Process, seeds []*tracee.Seed) error {
	const notByPrctl = 2 // SUID_DUMP_ROOT is only ever set by the kernel
	for i, s := range seeds {
		b := tracee.NewBatch(s)
		if i == 0 && p.Dumpable != notByPrctl {
			b.Must("set dumpable", kernel.SysPrctl, kernel.PrSetDumpable, p.Dumpable)
		}
		if sig := p.Threads[i].DeathSignal; sig != 0 {
			b.Must("set the parent-death signal", kernel.SysPrctl, kernel.PrSetPDeathSig, sig)
		}
		if err := b.Run(); err != nil {
			return err
		}
	}
	return nil
}

// Final is what a thread begins to run with.
func Final(t *image.Thread) tracee.Final {
	return tracee.Final{Regs: kernel.RegsFrom(t.Registers), XState: t.XState, SigMask: t.SigMask}
}
