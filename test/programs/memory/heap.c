// The heap: brk stays where it was and continues; malloc arenas of several threads hold and go on.
#include "../check.h"

enum { BLOCKS = 2000, N = 4 };
static volatile int started;

static size_t size_of(int i) { return 16 + (i * 7919) % 3000; }

static void *arena(void *arg) {
    uint64_t seed = (uintptr_t)arg;
    uint8_t *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) fill(blocks[i] = malloc(size_of(i)), size_of(i), seed + i);
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    for (int round = 0; !finishing(); round++)
        for (int i = round % 3; i < BLOCKS; i += 3) {
            verify("malloc block", blocks[i], size_of(i), seed + i);
            free(blocks[i]);
            fill(blocks[i] = malloc(size_of(i)), size_of(i), seed + i);
        }
    for (int i = 0; i < BLOCKS; i++) {
        verify("malloc block", blocks[i], size_of(i), seed + i);
        free(blocks[i]);
    }
    return NULL;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    pthread_t t[N];
    for (int i = 0; i < N; i++) t[i] = thread(arena, (void *)(uintptr_t)(i * 100000 + 1));
    UNTIL(started == N, "all arenas");
    uint8_t *low = SYS(sbrk(3 * PAGE + 5));
    fill(low, 3 * PAGE + 5, 9);
    uint8_t *end = sbrk(0);
    ready();
    while (!finishing()) {
        CHECK(sbrk(0) == end, "program break, expected %p, got %p", end, sbrk(0));
        verify("memory from sbrk", low, 3 * PAGE + 5, 9);
        nap(5);
    }
    CHECK(sbrk(100 * PAGE) == end, "sbrk does not continue at the old break");
    verify_zero("new memory from sbrk", end, 100 * PAGE);
    CHECK(sbrk(-100 * PAGE) == end + 100 * PAGE && sbrk(0) == end, "sbrk does not shrink");
    for (int i = 0; i < N; i++) join(t[i]);
    return ok();
}
