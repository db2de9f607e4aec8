// Registers in tight loops: general purpose and flags, SSE, AVX2, AVX-512 with masks, x87 and MXCSR.
#include "registers.h"

static void lap(uintptr_t seed) { (void)seed; }

int main(int argc, char **argv) {
    begin(argc, argv);
    pthread_t threads[8];
    int n = 0;
    threads[n++] = thread(gpr, (void *)1);
    threads[n++] = thread(gpr, (void *)2);
    threads[n++] = thread(x87, (void *)6);
    threads[n++] = thread(sse, (void *)3);
    if (__builtin_cpu_supports("avx2")) threads[n++] = thread(avx2, (void *)4);
    else lacks("AVX2 (cpuid)");
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) threads[n++] = thread(avx512, (void *)5);
    else lacks("AVX-512 (cpuid)");
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & (1 << 24))) lacks("AMX (cpuid 7.0 edx bit 24)");
    nap(20);
    ready();
    for (int i = 0; i < n; i++) join(threads[i]);
    return ok();
}
