package task

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
	"github.com/kup-project/kup/internal/procfs"
	"github.com/kup-project/kup/internal/refuse"
	"github.com/kup-project/kup/internal/tracee"
)

// Identity describes a process by what /proc says of it: all that a zombie still has.
func Identity(p *tracee.Process) (image.Process, error) {
	st, err := procfs.ReadStat(p.PID)
	if err != nil {
		return image.Process{}, fmt.Errorf("pid %d: %w", p.PID, err)
	}
	out := image.Process{PID: p.PID, PPID: st.PPID, PGID: st.PGID, SID: st.SID, Comm: st.Comm, ExitSignal: st.ExitSignal,
		State: image.Running}
	switch {
	case p.Zombie:
		out.State, out.ExitStatus = image.Zombie, st.ExitCode
	case p.Stopped:
		out.State, out.StopSignal = image.Stopped, int(p.StopSignal)
	}
	return out, nil
}

// Ask begins to describe a live, frozen process: b, for its first thread, gets the calls by which it tells of itself what nobody else can. When they
// were executed, answer completes the description.
func Ask(p *tracee.Process, b *tracee.Batch, out *image.Process) (answer func() error, err error) {
	if err := fromProc(out); err != nil {
		return nil, err
	}
	shared, err := kernel.PtracePeekSigInfo(p.Tasks[0].TID, true)
	if err != nil {
		return nil, fmt.Errorf("pid %d: pending signals: %w", p.PID, err)
	}
	out.Pending = queued(shared)
	timers, err := signalsAndTimers(b, out)
	if err != nil {
		return nil, err
	}
	prctls := processPrctls(b, out)
	return func() error {
		if err := timers(); err != nil {
			return err
		}
		rearmExpired(out)
		return prctls()
	}, nil
}

// fromProc reads what can be read from outside.
func fromProc(out *image.Process) error {
	status, err := procfs.ReadStatus(out.PID)
	if err != nil {
		return err
	}
	out.Umask = status.Umask
	if out.Cwd.Path, err = folder(out.PID, "cwd"); err != nil {
		return err
	}
	if out.Root.Path, err = folder(out.PID, "root"); err != nil {
		return err
	}
	limits, err := procfs.ReadLimits(out.PID)
	if err != nil {
		return err
	}
	for _, l := range limits {
		out.Limits = append(out.Limits, image.Limit(l))
	}
	if out.OOMScoreAdj, err = readInt(procfs.Path(out.PID, "oom_score_adj"), 10); err != nil {
		return err
	}
	filter, err := readInt(procfs.Path(out.PID, "coredump_filter"), 16)
	if err != nil {
		return err
	}
	out.CoreFilter = uint32(filter)
	offsets, err := procfs.ReadTimeOffsets(out.PID)
	if err != nil {
		return err
	}
	out.TimeOffset = image.TimeShift(offsets)
	return nil
}

func readInt(path string, base int) (int, error) {
	text, err := kernel.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), base, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return int(n), nil
}

const (
	signals       = 64
	sigactionSize = 32
)

// signalsAndTimers asks the process for its signal actions and its timers.
func signalsAndTimers(b *tracee.Batch, out *image.Process) (answer func() error, err error) {
	timers, err := procfs.ReadTimers(out.PID)
	if err != nil {
		return nil, err
	}
	actions := b.Space(signals * sigactionSize)
	for sig := 1; sig <= signals; sig++ {
		b.Must("read a signal action", kernel.SysRtSigaction, sig, 0, b.Within(actions, (sig-1)*sigactionSize), 8)
	}
	var itimers [3]*tracee.Buffer
	for which := range itimers {
		itimers[which] = b.Space(32)
		b.Must("read an interval timer", kernel.SysGetitimer, which, itimers[which])
	}
	times := make([]*tracee.Buffer, len(timers))
	overruns := make([]*tracee.Result, len(timers))
	for i, t := range timers {
		times[i] = b.Space(32)
		b.Must("read a timer", kernel.SysTimerGettime, t.ID, times[i])
		overruns[i] = b.Must("read a timer's overruns", kernel.SysTimerGetoverrun, t.ID)
	}
	return func() error {
		for sig := range signals {
			w := func(i int) uint64 { return actions.Word(sig*4 + i) }
			out.Actions = append(out.Actions, image.SigAction{Handler: w(0), Flags: w(1), Restorer: w(2), Mask: w(3)})
		}
		for which, buf := range itimers {
			out.ITimers[which] = interval(buf, 1000)
		}
		for i, t := range timers {
			timer, err := posixTimer(out, t)
			if err != nil {
				return err
			}
			timer.Time = interval(times[i], 1)
			timer.Overrun = int(overruns[i].Value())
			out.Timers = append(out.Timers, timer)
		}
		return nil
	}, nil
}

// interval reads {interval, value} of struct itimerval (unit 1000 ns) or itimerspec (1 ns).
func interval(buf *tracee.Buffer, unit int64) image.ITimer {
	ns := func(i int) int64 { return int64(buf.Word(i))*1e9 + int64(buf.Word(i+1))*unit }
	return image.ITimer{Interval: ns(0), Value: ns(2)}
}

// Kinds of notification, sigevent(3type).
const (
	sigevSignal   = 0
	sigevNone     = 1
	sigevThread   = 2
	sigevThreadID = 4
)

func posixTimer(p *image.Process, t procfs.Timer) (image.PosixTimer, error) {
	const (
		clockProcessCPU = 2
		clockThreadCPU  = 3
		// The kernel shows CLOCK_PROCESS_CPUTIME_ID as the processor-time clock of process 0, which means the timer's own one:
		// MAKE_PROCESS_CPUCLOCK(0, CPUCLOCK_SCHED) of include/linux/posix-timers.h.
		ownProcessCPU = -6
	)
	if t.Clock == ownProcessCPU {
		t.Clock = clockProcessCPU
	}
	out := image.PosixTimer{ID: t.ID, Clock: t.Clock, Signal: t.Signal, Value: t.Value, TID: t.TID}
	switch {
	case t.TID != 0:
		out.Notify = sigevThreadID
	case t.Notify == "none":
		out.Notify = sigevNone
	case t.Notify == "thread":
		out.Notify = sigevThread
	}
	if t.Clock == clockThreadCPU || t.Clock < 0 {
		return out, refuse.Errorf("pid %d (%s): POSIX timer %d runs on a thread's processor time (clock %d), which cannot be checkpointed", p.PID, p.Comm, t.ID, t.Clock)
	}
	return out, nil
}

// rearmExpired keeps ITIMER_REAL going whose signal is pending: it reads as value 0 until the signal is delivered, which is when
// the kernel would start it again (kernel/signal.c, dequeue_signal).
func rearmExpired(p *image.Process) {
	t := &p.ITimers[0]
	if t.Value == 0 && t.Interval != 0 {
		t.Value = t.Interval
	}
}

func processPrctls(b *tracee.Batch, out *image.Process) (answer func() error) {
	brk := b.Must("read the break", kernel.SysBrk, 0)
	dumpable := b.Must("read dumpable", kernel.SysPrctl, kernel.PrGetDumpable)
	subreaper := b.Space(8)
	b.Must("read subreaper", kernel.SysPrctl, kernel.PrGetChildSubreaper, subreaper)
	thp := b.Must("read thp_disable", kernel.SysPrctl, kernel.PrGetTHPDisable, 0, 0, 0, 0)
	mdwe := b.Call(kernel.SysPrctl, kernel.PrGetMDWE, 0, 0, 0, 0)
	return func() error {
		if mdwe.Err() == nil && mdwe.Value() != 0 {
			return refuse.Errorf("pid %d (%s) has forbidden itself writable executable memory (PR_SET_MDWE), so kup cannot rebuild it", out.PID, out.Comm)
		}
		out.Memory.Brk = uint64(brk.Value())
		out.Dumpable = int(dumpable.Value())
		out.Subreaper = uint32(subreaper.Word(0)) != 0
		out.THPDisable = thp.Value() != 0
		return nil
	}
}

func queued(infos [][]byte) (list []image.SigInfo) {
	for _, raw := range infos {
		list = append(list, image.SigInfo{Raw: raw})
	}
	return list
}

// fault tells whether a signal reports that the thread's next instruction has failed. It is not kept: the instruction is executed again, and fails again
// if it must. A seed could not hold the signal back, as the kernel delivers such signals first, even blocked ones (kernel/signal.c,
// dequeue_synchronous_signal).
func fault(info []byte, blocked uint64) bool {
	const kernelCode, memoryLater = 0x80, 5 // SI_KERNEL, BUS_MCEERR_AO
	sig, code := kernel.Signal(binary.LittleEndian.Uint32(info)), int32(binary.LittleEndian.Uint32(info[8:]))
	switch sig {
	case kernel.SIGSEGV, kernel.SIGBUS, kernel.SIGILL, kernel.SIGFPE:
		sent := blocked&(1<<(sig-1)) != 0 // the kernel never leaves a fault blocked
		return code > 0 && code != kernelCode && !sent && !(sig == kernel.SIGBUS && code == memoryLater)
	}
	return false
}

// Thread describes a thread but for what only it can tell: see Told and AskThread. What cannot be restored is refused.
func Thread(t *tracee.Task, out *image.Thread) (err error) {
	out.TID, out.SigMask = t.TID, t.SigMask
	regs := t.Regs
	restartable(&regs, t.RestartHint)
	out.Registers = kernel.RegsBytes(&regs)
	if out.XState, err = kernel.PtraceGetXState(t.TID); err != nil {
		return fmt.Errorf("thread %d: extended registers: %w", t.TID, err)
	}
	if err := traced(out); err != nil {
		return fmt.Errorf("thread %d: %w", t.TID, err)
	}
	return nil
}

// traced asks for what only the tracer is told.
func traced(out *image.Thread) error {
	pending, err := kernel.PtracePeekSigInfo(out.TID, false)
	if err != nil {
		return err
	}
	pending = slices.DeleteFunc(pending, func(info []byte) bool { return fault(info, out.SigMask) })
	out.Pending = queued(pending)
	rseq, err := kernel.PtraceGetRseq(out.TID)
	if err != nil || rseq.Pointer == 0 {
		return err
	}
	out.Rseq = image.Rseq{Addr: rseq.Pointer, Size: rseq.Size, Signature: rseq.Signature, Flags: rseq.Flags}
	return nil
}

// ThreadFromOutside adds to the description of a thread what everybody is told: it need not be called by the tracer.
func ThreadFromOutside(pid, tid int, out *image.Thread) error {
	if err := fromOutside(pid, tid, out); err != nil {
		return fmt.Errorf("thread %d: %w", tid, err)
	}
	return nil
}

func fromOutside(pid, tid int, out *image.Thread) error {
	status, err := procfs.ReadStatus(tid)
	if err != nil {
		return err
	}
	if err := checkSeccomp(pid, &status); err != nil {
		return err
	}
	out.Comm, out.NoNewPrivs = status.Name, status.NoNewPrivs
	out.Creds = image.Creds{UIDs: status.UIDs, GIDs: status.GIDs, Groups: status.Groups,
		Inheritable: status.CapInheritable, Permitted: status.CapPermitted, Effective: status.CapEffective,
		Bounding: status.CapBounding, Ambient: status.CapAmbient}
	if out.Robust.Head, out.Robust.Len, err = kernel.GetRobustList(tid); err != nil {
		return err
	}
	attr, err := kernel.SchedGetAttr(tid)
	if err != nil {
		return err
	}
	out.Sched = image.Sched{Policy: attr.Policy, Flags: attr.Flags, Nice: attr.Nice, Priority: attr.Priority,
		Runtime: attr.Runtime, Deadline: attr.Deadline, Period: attr.Period}
	if out.Affinity, err = kernel.SchedGetAffinity(tid); err != nil {
		return err
	}
	out.IOPrio, err = kernel.IOPrioGet(tid)
	return err
}

// onStack is SS_ONSTACK in the flags of an alternate stack: it follows from the stack pointer.
const onStack = 1

// Told adds to the description of a thread what it has told of itself.
func Told(self *tracee.Self, out *image.Thread) {
	out.ClearTID, out.DeathSignal, out.TSC = self.ClearTID, self.DeathSignal, self.TSC
	out.AltStack = image.Stack{SP: self.StackAddr, Size: self.StackSize, Flags: self.StackFlags &^ onStack}
	out.Creds.SecureBits, out.TimerSlack, out.MCEKill, out.Personality = self.SecureBits, self.TimerSlack, self.MCEKill, self.Personality
}

// AskThread is Ask for a thread: what only it can tell.
func AskThread(b *tracee.Batch, out *image.Thread) (answer func() error) {
	clear, death, tsc := b.Space(8), b.Space(8), b.Space(8)
	stack := b.Space(24)
	b.Must("read the thread ID address", kernel.SysPrctl, kernel.PrGetTIDAddress, clear)
	b.Must("read the parent-death signal", kernel.SysPrctl, kernel.PrGetPDeathSig, death)
	b.Must("read the TSC mode", kernel.SysPrctl, kernel.PrGetTSC, tsc)
	b.Must("read the alternate stack", kernel.SysSigaltstack, 0, stack)
	secure := b.Must("read the secure bits", kernel.SysPrctl, kernel.PrGetSecureBits)
	slack := b.Must("read the timer slack", kernel.SysPrctl, kernel.PrGetTimerSlack)
	mce := b.Must("read the MCE policy", kernel.SysPrctl, kernel.PrMCEKillGet, 0, 0, 0, 0)
	const query = 0xffffffff // changes nothing, personality(2)
	personality := b.Must("read the personality", kernel.SysPersonality, query)
	return func() error {
		out.ClearTID = clear.Word(0)
		out.DeathSignal = int(uint32(death.Word(0)))
		out.TSC = int(uint32(tsc.Word(0)))
		out.AltStack = image.Stack{SP: stack.Word(0), Size: stack.Word(2),
			Flags: int32(binary.LittleEndian.Uint32(stack.Data[8:])) &^ onStack}
		out.Creds.SecureBits = uint32(secure.Value())
		out.TimerSlack = uint64(slack.Value())
		out.MCEKill = int(mce.Value())
		out.Personality = uint32(personality.Value())
		return nil
	}
}
