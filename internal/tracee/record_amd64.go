package tracee

import (
	"encoding/binary"

	"github.com/kup-project/kup/internal/kernel"
)

// Results by which the kernel marks an interrupted system call that it may restart, include/linux/errno.h.
const (
	restartSys    = -512 // ERESTARTSYS: unless a handler without SA_RESTART runs
	restartNoIntr = -513 // ERESTARTNOINTR: always
	restartNoHand = -514 // ERESTARTNOHAND: unless a handler runs
	restartBlock  = -516 // ERESTART_RESTARTBLOCK: likewise, by restart_syscall(2)

	minusEINTR = ^uint64(4 - 1)
	saRestart  = 0x10000000 // SA_RESTART

	trapFlag      = 1 << 8  // TF of eflags: single-stepping
	directionFlag = 1 << 10 // DF

	syscallSize = 2 // bytes of the syscall instruction

	userCode32 = 0x23 // __USER32_CS: the code segment of 32-bit programs
)

// record is what the blob needs to know of one thread and one injection.
type record struct {
	addr   uint64 // where the record itself will stand
	area   uint64
	length uint64
	tid    int
	signal kernel.Signal // that makes a stop
	regs   kernel.Regs   // the thread's own
	mask   uint64        // the thread's own
	caught uint64        // signals with a handler
}

// bytes lays the record out as testdata/blob.S describes it.
func (r *record) bytes() []byte {
	b := make([]byte, recSize)
	put := func(at int, v uint64) { binary.LittleEndian.PutUint64(b[at:], v) }
	put(recArea, r.area)
	put(recLen, r.length)
	binary.LittleEndian.PutUint32(b[recTID:], uint32(r.tid))
	binary.LittleEndian.PutUint32(b[recSignal:], uint32(r.signal))
	put(recBlock, ^signalBit(r.signal))
	put(recMask, r.mask)
	// A debugger of old may have left the flag; popf would stop the thread by it in the midst of the blob.
	put(recEflags, r.regs.Eflags&^trapFlag)
	g := &r.regs
	for i, v := range []uint64{g.Rsp, g.Rbx, g.Rbp, g.Rdi, g.Rsi, g.Rdx, g.Rcx, g.R8, g.R9, g.R10, g.R11, g.R12, g.R13} {
		put(recRsp+8*i, v)
	}
	ended, restarted := r.interrupted(put)
	for i, to := range []resumption{ended, restarted} {
		put(recRax+8*i, to.rax)
		put(recRip+8*i, to.rip)
		r.exit(b[recExit+i*exitSpacing:], recExit+i*exitSpacing, recRip+8*i)
	}
	return b
}

type resumption struct{ rax, rip uint64 }

// interrupted tells how the thread goes on if the system call it was in, if any, ends, and if it is restarted, as in
// arch/x86/kernel/signal.c, handle_signal and arch_do_signal_or_restart. It stores what decides between the two.
func (r *record) interrupted(put func(int, uint64)) (ended, restarted resumption) {
	as := resumption{r.regs.Rax, r.regs.Rip}
	if int64(r.regs.Orig_rax) < 0 {
		return as, as
	}
	end := resumption{minusEINTR, r.regs.Rip}
	again := resumption{r.regs.Orig_rax, r.regs.Rip - syscallSize}
	switch int64(r.regs.Rax) {
	case restartNoIntr:
		return again, again
	case restartSys:
		put(recFlags, saRestart)
	case restartNoHand:
	case restartBlock:
		again.rax = kernel.SysRestartSyscall
	default:
		return as, as
	}
	put(recCaught, r.caught&^r.mask)
	return end, again
}

// exit writes the last instructions of the way home: they stand at offset at of the record and jump to where its word slot points.
func (r *record) exit(code []byte, at, slot int) {
	code[0], code[1] = 0x49, 0xbe // movabs r14, imm64
	binary.LittleEndian.PutUint64(code[2:], r.regs.R14)
	code[10], code[11] = 0x49, 0xbf // movabs r15, imm64
	binary.LittleEndian.PutUint64(code[12:], r.regs.R15)
	code[20], code[21] = 0xff, 0x25 // jmp [rip+rel32]
	binary.LittleEndian.PutUint32(code[22:], uint32(slot-(at+26)))
}

// What a thread is asked in the blob: the number of the system call that most questions are, or 0.
const (
	noQuestions  = 0
	theQuestions = kernel.SysPrctl
)

// enter returns the registers with which a thread begins the blob at address code. rax and orig_rax stay: the kernel decides on them whether
// the interrupted call is restarted, and enters at blobRestart or blobEnter.
func (r *record) enter(code uint64, questions int) kernel.Regs {
	const setMask = 2 // SIG_SETMASK
	g := r.regs
	g.Rip = code + blobEnter
	g.R15 = r.addr
	g.Rdi, g.Rsi, g.Rdx, g.R10 = setMask, r.addr+recBlock, 0, 8
	g.R8, g.R9, g.R12 = ^uint64(0), 0, uint64(questions)
	g.Eflags &^= trapFlag | directionFlag
	return g
}

func signalBit(s kernel.Signal) uint64 { return 1 << (s - 1) }
