#include "textflag.h"

// func cloneRun(nr, arg0, arg1 uintptr, table *tableCall, count uintptr) (pid uintptr)
//
// The child makes the calls of the table and exits. It shares this process's memory and stands on the stack of the thread
// that called, so it uses neither stack nor runtime.
TEXT ·cloneRun(SB), NOSPLIT, $0-48
	MOVQ nr+0(FP), AX        // SYS_clone or SYS_clone3
	MOVQ arg0+8(FP), DI
	MOVQ arg1+16(FP), SI
	MOVQ table+24(FP), R12
	MOVQ count+32(FP), R13
	XORL DX, DX
	XORL R10, R10
	XORL R8, R8
	SYSCALL
	TESTQ AX, AX
	JZ child
	MOVQ AX, pid+40(FP)
	RET

child:
	MOVQ 0(R12), AX
	MOVQ 8(R12), DI
	MOVQ 16(R12), SI
	MOVQ 24(R12), DX
	MOVQ 32(R12), R10
	MOVQ 40(R12), R8
	MOVQ 48(R12), R9
	SYSCALL
	MOVQ AX, 56(R12)
	ADDQ $64, R12
	DECQ R13
	JNZ child

	MOVL $60, AX             // SYS_exit
	XORL DI, DI
	SYSCALL
	INT $3
