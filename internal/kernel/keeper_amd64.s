#include "go_asm.h"
#include "textflag.h"

// func keepThread(k *keeper, nr, arg0, arg1 uintptr) (pid uintptr)
//
// The child shares this process's memory and stands on the stack of the thread that called, so it uses neither stack nor runtime. R12: k.
TEXT ·keepThread(SB), NOSPLIT, $0-40
	MOVQ k+0(FP), R12
	MOVQ nr+8(FP), AX        // SYS_clone or SYS_clone3
	MOVQ arg0+16(FP), DI
	MOVQ arg1+24(FP), SI
	XORL DX, DX
	XORL R10, R10
	XORL R8, R8
	SYSCALL
	TESTQ AX, AX
	JZ child
	MOVQ AX, pid+32(FP)
	RET

child:
	MOVL $112, AX            // SYS_setsid
	SYSCALL
	MOVL $157, AX            // SYS_prctl
	MOVL $15, DI             // PR_SET_NAME
	LEAQ keeper_name(R12), SI
	SYSCALL
	MOVL $144, AX            // SYS_sched_setscheduler: may fail
	XORL DI, DI
	MOVL $1, SI              // SCHED_FIFO
	LEAQ keeper_priority(R12), DX
	SYSCALL
	MOVL $101, AX            // SYS_ptrace
	MOVL $0x4206, DI         // PTRACE_SEIZE
	MOVQ keeper_tid(R12), SI
	XORL DX, DX
	MOVL $0x40, R10          // PTRACE_O_TRACEEXIT
	SYSCALL
	MOVQ AX, keeper_seized(R12)
	TESTQ AX, AX
	JNZ exit

	// Whatever else the thread stops for, it goes on.
wait:
	MOVL $61, AX             // SYS_wait4
	MOVQ keeper_tid(R12), DI
	LEAQ keeper_status(R12), SI
	MOVL $0x40000000, DX     // __WALL
	XORL R10, R10
	SYSCALL
	TESTQ AX, AX
	JLE ended                // it is gone
	MOVL keeper_status(R12), R10
	MOVL R10, DX
	ANDL $0xff, DX
	CMPL DX, $0x7f           // WIFSTOPPED
	JNE ended
	MOVL R10, DX
	SHRL $16, DX             // the event
	CMPL DX, $6              // PTRACE_EVENT_EXIT
	JEQ ended
	SHRL $8, R10
	ANDL $0xff, R10          // the signal
	MOVL $7, DI              // PTRACE_CONT
	TESTL DX, DX
	JZ resume                // a signal is delivered
	CMPL R10, $5             // SIGTRAP: no group stop
	JEQ silent
	MOVL $0x4208, DI         // PTRACE_LISTEN: it stays stopped until SIGCONT
silent:
	XORL R10, R10
resume:
	MOVL $101, AX            // SYS_ptrace
	MOVQ keeper_tid(R12), SI
	XORL DX, DX
	SYSCALL
	JMP wait

	// No other thread makes system calls any more when the thread is alone.
ended:
	MOVL $const_keeperPatience, R13
others:
	MOVL $332, AX            // SYS_statx
	MOVQ $-100, DI           // AT_FDCWD
	MOVQ keeper_threads(R12), SI
	XORL DX, DX
	MOVL $4, R10             // STATX_NLINK
	LEAQ keeper_stat(R12), R8
	SYSCALL
	TESTQ AX, AX
	JNZ execute              // the process is gone
	MOVL (keeper_stat+folderState_links)(R12), DX
	CMPQ DX, keeper_alone(R12)
	JHI pause
	MOVL $89, AX             // SYS_readlink
	MOVQ keeper_program(R12), DI
	LEAQ keeper_stat(R12), SI
	MOVL $1, DX
	SYSCALL
	TESTQ AX, AX
	JLE execute
pause:
	MOVL $35, AX             // SYS_nanosleep
	LEAQ keeper_pause(R12), DI
	XORL SI, SI
	SYSCALL
	DECL R13
	JNZ others

execute:
	MOVQ keeper_wills(R12), R14
table:
	TESTQ R14, R14
	JZ exit
	MOVQ willTable_count(R14), R13
	LEAQ willTable__size(R14), R15
call:
	MOVQ 0(R15), AX
	MOVQ 8(R15), DI
	MOVQ 16(R15), SI
	MOVQ 24(R15), DX
	MOVQ 32(R15), R10
	MOVQ 40(R15), R8
	MOVQ 48(R15), R9
	SYSCALL
	MOVQ AX, 56(R15)
	ADDQ $64, R15
	DECQ R13
	JNZ call
	MOVQ willTable_next(R14), R14
	JMP table

exit:
	MOVL $60, AX             // SYS_exit
	XORL DI, DI
	SYSCALL
	INT $3
