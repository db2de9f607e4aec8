// Thread-local storage: fs and gs base of each thread, __thread variables, thread-specific data.
#include "../check.h"
#include <asm/prctl.h>

enum { N = 6 };
static __thread uint64_t local[64] = {42};
static pthread_key_t key;
static volatile int started;

static uint64_t gs_word(void) {
    uint64_t v;
    __asm__ volatile("movq %%gs:0, %0" : "=r"(v));
    return v;
}

static void *worker(void *arg) {
    uint64_t seed = (uintptr_t)arg, *block = malloc(64), fs, gs;
    block[0] = seed * 77;
    SYS(syscall(SYS_arch_prctl, ARCH_SET_GS, block));
    SYS(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs));
    pthread_setspecific(key, block);
    CHECK_EQ("initial value of a __thread variable", 42, local[0]);
    fill(local, sizeof local, seed);
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    while (!finishing()) {
        uint64_t fs_now;
        SYS(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs_now));
        SYS(syscall(SYS_arch_prctl, ARCH_GET_GS, &gs));
        CHECK_EQ("fs base", fs, fs_now);
        CHECK_EQ("gs base", (uintptr_t)block, gs);
        CHECK_EQ("word at gs:0", seed * 77, gs_word());
        CHECK(pthread_getspecific(key) == block, "thread-specific data changed");
        verify("__thread array", local, sizeof local, seed);
        nap(3);
    }
    return NULL;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    pthread_key_create(&key, NULL);
    pthread_t t[N];
    for (int i = 0; i < N; i++) t[i] = thread(worker, (void *)(uintptr_t)(i + 1));
    UNTIL(started == N, "all threads");
    ready();
    for (int i = 0; i < N; i++) join(t[i]);
    return ok();
}
