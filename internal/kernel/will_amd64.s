#include "textflag.h"

// func cloneRun(flags uintptr, table *willCall, count uintptr) (pid uintptr)
//
// The child makes the calls of the table and exits. It shares this process's memory and stands on the stack of the thread
// that called, so it uses neither stack nor runtime.
TEXT ·cloneRun(SB), NOSPLIT, $0-32
	MOVQ flags+0(FP), DI
	MOVQ table+8(FP), R12
	MOVQ count+16(FP), R13
	XORL SI, SI
	XORL DX, DX
	XORL R10, R10
	XORL R8, R8
	MOVL $56, AX             // SYS_clone
	SYSCALL
	TESTQ AX, AX
	JZ child
	MOVQ AX, pid+24(FP)
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
	ADDQ $56, R12
	DECQ R13
	JNZ child

	MOVL $60, AX             // SYS_exit
	XORL DI, DI
	SYSCALL
	INT $3
