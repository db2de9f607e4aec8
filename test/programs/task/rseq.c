// Restartable sequences: per-CPU counters without atomics. A section that was interrupted must abort, or updates get
// lost; and the kernel must keep cpu_id current, so the area must be registered again after a restore.
#include "../check.h"
#include <sys/rseq.h>

enum { THREADS = 6, SPIN = 20000 };
static struct {
    long count;
    long pad[7];
} cells[1024];

static struct rseq *area(void) { return (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset); }

// add increments this CPU's cell by load, long spin, store; the store commits. Returns false if aborted.
static bool add(void) {
    struct rseq *r = area();
    __asm__ goto(".pushsection __rseq_cs, \"aw\"\n"
                 ".balign 32\n"
                 "3: .long 0, 0\n"
                 ".quad 1f, 2f - 1f, 4f\n"
                 ".popsection\n"
                 "leaq 3b(%%rip), %%rax\n"
                 "movq %%rax, 8(%[area])\n" // rseq_cs
                 "1: movl 4(%[area]), %%eax\n" // cpu_id
                 "shlq $6, %%rax\n"
                 "addq %[cells], %%rax\n"
                 "movq (%%rax), %%rdx\n"
                 "movl %[spin], %%ecx\n"
                 "5: decl %%ecx\n"
                 "jnz 5b\n"
                 "incq %%rdx\n"
                 "movq %%rdx, (%%rax)\n"
                 "2:\n"
                 ".pushsection __rseq_failure, \"ax\"\n"
                 ".byte 0x0f, 0xb9, 0x3d\n"
                 ".long %c[signature]\n"
                 "4: jmp %l[aborted]\n"
                 ".popsection\n"
                 :
                 : [area] "r"(r), [cells] "r"(cells), [spin] "i"(SPIN), [signature] "i"(RSEQ_SIG)
                 : "rax", "rcx", "rdx", "memory", "cc"
                 : aborted);
    return true;
aborted:
    return false;
}

static void *worker(void *unused) {
    (void)unused;
    long commits = 0;
    while (!finishing()) {
        for (int i = 0; i < 200; i++) commits += add();
        CHECK((int)area()->cpu_id >= 0, "cpu_id of the rseq area, expected a CPU, got %d", (int)area()->cpu_id);
    }
    return (void *)commits;
}

// pinned moves between CPUs and checks that the kernel keeps the area current.
static void *pinned(void *unused) {
    (void)unused;
    cpu_set_t allowed;
    SYS(sched_getaffinity(0, sizeof allowed, &allowed));
    while (!finishing())
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            if (!CPU_ISSET(cpu, &allowed)) continue;
            cpu_set_t one;
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            SYS(sched_setaffinity(0, sizeof one, &one));
            CHECK_EQ("cpu_id of a pinned thread", cpu, area()->cpu_id);
            nap(2);
        }
    return NULL;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    CHECK(__rseq_size > 0, "glibc has not registered rseq");
    pthread_t t[THREADS], p = thread(pinned, NULL);
    for (int i = 0; i < THREADS; i++) t[i] = thread(worker, NULL);
    nap(30);
    ready();
    long commits = 0, sum = 0;
    for (int i = 0; i < THREADS; i++) commits += (long)join(t[i]);
    join(p);
    for (int i = 0; i < 1024; i++) sum += cells[i].count;
    CHECK_EQ("sum of the per-CPU counters", commits, sum);
    return ok();
}
