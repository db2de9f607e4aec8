#include "textflag.h"

// func XCR0() uint64
TEXT ·XCR0(SB), NOSPLIT, $0-8
	// CPUID.1:ECX.OSXSAVE, bit 27: without it XGETBV is an invalid instruction.
	MOVL $1, AX
	XORL CX, CX
	CPUID
	BTL  $27, CX
	JCC  none
	XORL CX, CX
	XGETBV
	SHLQ $32, DX
	ORQ  DX, AX
	MOVQ AX, ret+0(FP)
	RET

none:
	MOVQ $0, ret+0(FP)
	RET
