// registers.h: loops that keep registers live: general purpose and flags, SSE, AVX2, AVX-512 with masks, x87 with its
// control word, MXCSR. Each loads a pattern, spins SPIN times with everything live, stores, compares, and calls lap().
#ifndef REGISTERS_H
#define REGISTERS_H
#include "../check.h"
#include <cpuid.h>
#include <stddef.h>

#ifndef SPIN
#define SPIN 4000000
#endif

// lap is what a program does after each round of a loop; its argument is the loop's.
static void lap(uintptr_t seed);

struct gpr {
    uint64_t rax, rbx, rdx, rsi, rbp, r8, r9, r10, r11, r12, r13, r14, r15, carry;
};

// spin_gpr(struct gpr *p, long spin): rdi and rcx are used by the loop itself. dec keeps the carry flag.
void spin_gpr(struct gpr *p, long spin);
__asm__(".text\nspin_gpr:\n"
        "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "mov %rsi, %rcx\n"
        "mov (%rdi), %rax; mov 8(%rdi), %rbx; mov 16(%rdi), %rdx; mov 24(%rdi), %rsi; mov 32(%rdi), %rbp\n"
        "mov 40(%rdi), %r8; mov 48(%rdi), %r9; mov 56(%rdi), %r10; mov 64(%rdi), %r11\n"
        "mov 72(%rdi), %r12; mov 80(%rdi), %r13; mov 88(%rdi), %r14; mov 96(%rdi), %r15\n"
        "stc; std\n"
        "1: dec %rcx\n jnz 1b\n"
        "mov %rax, (%rdi); mov %rbx, 8(%rdi); mov %rdx, 16(%rdi); mov %rsi, 24(%rdi); mov %rbp, 32(%rdi)\n"
        "mov %r8, 40(%rdi); mov %r9, 48(%rdi); mov %r10, 56(%rdi); mov %r11, 64(%rdi)\n"
        "mov %r12, 72(%rdi); mov %r13, 80(%rdi); mov %r14, 88(%rdi); mov %r15, 96(%rdi)\n"
        "pushf; pop %rax; cld; mov %rax, 104(%rdi)\n"
        "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n");

__attribute__((unused)) static void *gpr(void *seed) {
    while (!finishing()) {
        struct gpr want, got;
        fill(&want, sizeof want, (uintptr_t)seed);
        got = want;
        spin_gpr(&got, SPIN);
        CHECK(memcmp(&want, &got, offsetof(struct gpr, carry)) == 0, "general purpose registers changed");
        CHECK_EQ("carry and direction flag", 0x401, got.carry & 0x401);
        lap((uintptr_t)seed);
    }
    return NULL;
}

#define EACH16(m) m(0) m(1) m(2) m(3) m(4) m(5) m(6) m(7) m(8) m(9) m(10) m(11) m(12) m(13) m(14) m(15)
#define EACH32(m) EACH16(m) m(16) m(17) m(18) m(19) m(20) m(21) m(22) m(23) m(24) m(25) m(26) m(27) m(28) m(29) m(30) m(31)
#define XMM_CLOBBER(n) , "xmm" #n

// vector_loop defines NAME: it loads COUNT registers of SIZE bytes from in, spins, and stores them to out.
#define VECTOR_LOOP(NAME, TARGET, COUNT, SIZE, BEFORE, LOAD, STORE, AFTER, MASKS)                      \
    __attribute__((target(TARGET))) __attribute__((unused)) static void *NAME(void *seed) {                              \
        static uint8_t in[COUNT * SIZE + 64] __attribute__((aligned(64))), out[COUNT * SIZE + 64] __attribute__((aligned(64))); \
        fill(in, sizeof in, (uintptr_t)seed);                                                    \
        while (!finishing()) {                                                                   \
            memset(out, 0, sizeof out);                                                          \
            long spin = SPIN;                                                                    \
            __asm__ volatile(BEFORE LOAD "1: dec %[spin]\n jnz 1b\n" STORE AFTER                 \
                             : [spin] "+r"(spin)                                                 \
                             : [in] "r"(in), [out] "r"(out)                                      \
                             : "memory", "cc" EACH16(XMM_CLOBBER));                              \
            verify(#NAME " registers", out, COUNT *SIZE, (uintptr_t)seed);                       \
            CHECK(!MASKS || memcmp(out + COUNT * SIZE, in + COUNT * SIZE, 64) == 0, #NAME " mask registers changed"); \
            lap((uintptr_t)seed);                                                                \
        }                                                                                        \
        return NULL;                                                                             \
    }
#define LX(n) "movdqa " #n "*16(%[in]), %%xmm" #n "\n"
#define SX(n) "movdqa %%xmm" #n ", " #n "*16(%[out])\n"
#define LY(n) "vmovdqa " #n "*32(%[in]), %%ymm" #n "\n"
#define SY(n) "vmovdqa %%ymm" #n ", " #n "*32(%[out])\n"
#define LZ(n) "vmovdqa64 " #n "*64(%[in]), %%zmm" #n "\n"
#define SZ(n) "vmovdqa64 %%zmm" #n ", " #n "*64(%[out])\n"
#define LK(n) "kmovq 2048+8*" #n "(%[in]), %%k" #n "\n"
#define SK(n) "kmovq %%k" #n ", 2048+8*" #n "(%[out])\n"
#define EACH8(m) m(0) m(1) m(2) m(3) m(4) m(5) m(6) m(7)
VECTOR_LOOP(sse, "sse2", 16, 16, "", EACH16(LX), EACH16(SX), "", false)
VECTOR_LOOP(avx2, "avx2", 16, 32, "", EACH16(LY), EACH16(SY), "vzeroupper\n", false)
VECTOR_LOOP(avx512, "avx512f,avx512bw", 32, 64, EACH8(LK), EACH32(LZ), EACH32(SZ), EACH8(SK) "vzeroupper\n", true)

// x87 keeps eight values, a control word with 24-bit precision and rounding to zero; MXCSR rounds down, flushes to zero.
__attribute__((unused)) static void *x87(void *seed) {
    while (!finishing()) {
        double in[8], out[8];
        for (int i = 0; i < 8; i++) in[i] = 1.5 * i + 0.25;
        uint16_t control = 0x0c7f, control_out = 0, control_old;
        uint32_t mxcsr = 0xbf80, mxcsr_out = 0, mxcsr_old;
        long spin = SPIN;
        __asm__ volatile("fnstcw %[cold]; stmxcsr %[mold]\n"
                         "fninit; fldcw %[c]; ldmxcsr %[m]\n"
                         "fldl (%[in]); fldl 8(%[in]); fldl 16(%[in]); fldl 24(%[in])\n"
                         "fldl 32(%[in]); fldl 40(%[in]); fldl 48(%[in]); fldl 56(%[in])\n"
                         "1: dec %[spin]\n jnz 1b\n"
                         "fnstcw %[cout]; stmxcsr %[mout]\n"
                         "fstpl 56(%[out]); fstpl 48(%[out]); fstpl 40(%[out]); fstpl 32(%[out])\n"
                         "fstpl 24(%[out]); fstpl 16(%[out]); fstpl 8(%[out]); fstpl (%[out])\n"
                         "fldcw %[cold]; ldmxcsr %[mold]\n"
                         : [spin] "+r"(spin), [cout] "=m"(control_out), [mout] "=m"(mxcsr_out), [cold] "=m"(control_old),
                           [mold] "=m"(mxcsr_old)
                         : [in] "r"(in), [out] "r"(out), [c] "m"(control), [m] "m"(mxcsr)
                         : "memory", "cc");
        CHECK(memcmp(in, out, sizeof in) == 0, "x87 registers changed");
        CHECK_EQ("x87 control word", control, control_out);
        CHECK_EQ("MXCSR", mxcsr, mxcsr_out);
        lap((uintptr_t)seed);
    }
    return NULL;
}

#endif
