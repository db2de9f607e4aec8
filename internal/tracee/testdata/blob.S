/*
 * The code that runs inside a target during an Injection: the source of the bytes in ../blob_amd64.go, which a test compares.
 *
 * It stands in the zero tail of the target's [vdso], once per process, and works for any number of threads: what differs from
 * thread to thread is in a record behind it, to which r15 points. See ../doc.go for the drawing.
 *
 * Rules: rsp is the target's own at any time, except for the two instructions around popf, when all signals are blocked;
 * nothing is written to the stack, no frame is made, no system call sleeps or touches the restart block.
 */
	.intel_syntax noprefix
	.text

	/* Offsets into the record. */
	.set O_AREA,   0		/* where the area is to be mapped */
	.set O_LEN,    8		/* its length */
	.set O_TID,   16		/* u32: of this thread */
	.set O_SIG,   20		/* u32: the signal that makes a stop */
	.set O_SAF,   24		/* u32: sa_flags that keep a restart */
	.set O_CGT,   32		/* signals whose delivery ends the interrupted call, 0 if there is none */
	.set O_BLOCK, 40		/* signal mask during the injection */
	.set O_MASK,  48		/* the thread's own signal mask */
	.set O_FLAGS, 56		/* from here on the thread's own registers */
	.set O_RSP,   64
	.set O_RBX,   72
	.set O_RBP,   80
	.set O_RDI,   88
	.set O_RSI,   96
	.set O_RDX,  104
	.set O_RCX,  112
	.set O_R8,   120
	.set O_R9,   128
	.set O_R10,  136
	.set O_R11,  144
	.set O_R12,  152
	.set O_R13,  160
	.set O_RAX,  168		/* two: if the interrupted call ends, if it is restarted */
	.set O_RIP,  184		/* two, likewise */
	.set O_EXIT, 200		/* two pieces of code, 32 bytes apart: r14, r15, jmp [RIP] */

	/* Offsets into the area. */
	.set CLEANAT, 0		/* u64: offset of the clean-up table */
	.set CLEANN,  8		/* u64: how many entries it has */
	.set SCRATCH, 16	/* 32 bytes */
	.set COUNT,   56	/* u64: how many entries the batch has; 0 again when they are done */
	.set TABLE,   64

	.set ENTRY_SIZE, 72

	.macro stop
	mov	edi, [r15+O_TID]
	mov	esi, [r15+O_SIG]
	mov	eax, 200		/* tkill */
	syscall
	.endm

	/*
	 * The tracer sets rip to enter and leaves rax and orig_rax as they were. On the way to user space the kernel decides about the
	 * interrupted call as ever: rip-2 if it is to be restarted, rip if not, or if a handler ran before.
	 * Preset: r15 record, rdi SIG_SETMASK, rsi r15+BLOCK, rdx 0, r10 8, r8 -1, r9 0, r12 0 or, to be asked questions, the number of prctl.
	 */
restart:
	jmp	1f
enter:
	xor	r14d, r14d
	jmp	2f
1:	mov	r14d, 8			/* the index of a restart in RAX and RIP, in bytes */
2:	mov	eax, 14			/* rt_sigprocmask(SIG_SETMASK, BLOCK) */
	syscall
map:
	mov	rdi, [r15+O_AREA]
	mov	rsi, [r15+O_LEN]
	mov	edx, 3			/* PROT_READ|PROT_WRITE */
	mov	r10d, 0x100022		/* MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED_NOREPLACE */
	mov	eax, 9			/* mmap */
	syscall
	mov	r13, rax		/* the area, or -errno: the tracer looks */
	test	rax, rax
	js	mapless
	test	r12d, r12d
	jnz	questions

next:
	stop
	.globl stopped
stopped:
	xor	r12d, r12d
	lea	rbx, [r13+TABLE]
	mov	ebp, [r13+COUNT]
	test	ebp, ebp
	jnz	run
	/* No batch: it is over, or the tracer is dead. */
	inc	r12d
	mov	rbx, [r13+CLEANAT]
	add	rbx, r13
	mov	ebp, [r13+CLEANN]
	test	ebp, ebp
	jz	done
run:
	mov	rax, [rbx]
	mov	rdi, [rbx+8]
	mov	rsi, [rbx+16]
	mov	rdx, [rbx+24]
	mov	r10, [rbx+32]
	mov	r8, [rbx+40]
	mov	r9, [rbx+48]
	syscall
	mov	rcx, [rbx+56]
	mov	[rcx], rax
	mov	rcx, [rbx+64]
	mov	[rcx], rax
	add	rbx, ENTRY_SIZE
	dec	ebp
	jnz	run
	test	r12d, r12d
	jnz	done
	mov	[r13+COUNT], r12
	jmp	next

done:
	/* Will a signal be handled as soon as the mask is back? Then the interrupted call ends with EINTR, unless it is one that the
	   handler's SA_RESTART applies to. */
	mov	esi, 8
	mov	r10d, esi
	lea	rdi, [r13+SCRATCH]
	mov	eax, 127		/* rt_sigpending */
	syscall
	mov	rax, [r13+SCRATCH]
	and	rax, [r15+O_CGT]
	jz	unmap
	bsf	rdi, rax
	inc	edi
	xor	esi, esi
	lea	rdx, [r13+SCRATCH]
	mov	eax, 13			/* rt_sigaction(lowest, NULL, SCRATCH) */
	syscall
	mov	eax, [r13+SCRATCH+8]	/* sa_flags */
	test	eax, [r15+O_SAF]
	jnz	unmap
	xor	r14d, r14d
unmap:
	mov	rdi, r13
	mov	rsi, [r15+O_LEN]
	mov	eax, 11			/* munmap */
	syscall
mapless:
	stop
	.globl home
home:
	/* Only without a tracer. The mask may be the thread's own already, so block all for popf. */
	mov	edi, 2
	lea	rsi, [rip+all]
	xor	edx, edx
	mov	r10d, 8
	mov	eax, 14			/* rt_sigprocmask */
	syscall
	mov	rbx, [r15+O_RBX]
	mov	rbp, [r15+O_RBP]
	mov	r8, [r15+O_R8]
	mov	r9, [r15+O_R9]
	mov	r12, [r15+O_R12]
	mov	r13, [r15+O_R13]
	lea	rsp, [r15+O_FLAGS]
	popfq
	mov	rsp, [r15+O_RSP]
	/* From here on nothing changes the flags, and syscall preserves them. */
	mov	edi, 2
	lea	rsi, [r15+O_MASK]
	mov	edx, 0
	mov	eax, 14			/* rt_sigprocmask */
	syscall
	mov	rdi, [r15+O_RDI]
	mov	rsi, [r15+O_RSI]
	mov	rdx, [r15+O_RDX]
	mov	rcx, [r15+O_RCX]
	mov	r10, [r15+O_R10]
	mov	r11, [r15+O_R11]
	mov	rax, [r15+r14+O_RAX]
	lea	r14, [r15+r14*4+O_EXIT]
	jmp	r14
all:
	.quad	-1

	/*
	 * Questions that only the thread itself can answer. The answers are in registers at the stop, when the area is gone again. If one cannot be
	 * answered, the thread goes to its last stop. See ../ask_amd64.go. Where there is no room for it, all this is left out.
	 */
	.macro ask option
	lea	edi, [rdx+\option]
	mov	eax, r12d
	syscall
	.endm
	.macro fill option, at
	lea	rsi, [r13+\at]
	ask	\option
	or	r9, rax
	.endm
questions:
	xor	edx, edx
	xor	r8d, r8d
	xor	r10d, r10d		/* PR_MCE_KILL_GET demands zeros */
	fill	40, 0			/* PR_GET_TID_ADDRESS */
	fill	2, 8			/* PR_GET_PDEATHSIG */
	fill	25, 12			/* PR_GET_TSC */
	lea	rsi, [r13+24]
	xor	edi, edi
	mov	eax, 131		/* sigaltstack(NULL, ...) */
	syscall
	or	r9, rax
	jnz	done
	xor	esi, esi
	ask	30			/* PR_GET_TIMERSLACK */
	mov	rbx, rax
	ask	27			/* PR_GET_SECUREBITS */
	mov	ebp, eax
	ask	34			/* PR_MCE_KILL_GET */
	shl	rax, 32
	or	rbp, rax
	or	edi, -1
	mov	eax, 135		/* personality(0xffffffff) */
	syscall
	mov	r10, rax
	mov	rdi, r13
	mov	r8, [rdi]		/* the thread ID address */
	mov	rdx, [rdi+8]		/* the parent-death signal and the TSC mode */
	mov	r13, [rdi+24]		/* stack_t: ss_sp, ss_flags, ss_size */
	mov	r9d, [rdi+32]
	mov	r12, [rdi+40]
	mov	rsi, [r15+O_LEN]
	mov	eax, 11			/* munmap */
	syscall
	stop
	.globl asked
asked:
	/* Only without a tracer: home by way of another area, where it is decided how the interrupted call goes on. */
	xor	r12d, r12d
	or	r8, -1
	xor	r9d, r9d
	jmp	map
end:
