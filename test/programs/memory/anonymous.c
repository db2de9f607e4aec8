// Private anonymous memory: sparse content, untouched pages, huge pages; and that it behaves as such afterwards:
// MADV_DONTNEED gives zeros, mremap grows with zeros, fork copies on write.
#include "../check.h"

enum { SIZE = 8 << 20, HUGE = 4 << 20 };
static uint8_t *sparse, *huge, *dropped, *grown;

static int copy_on_write(void *unused) {
    (void)unused;
    verify("memory in a forked child", sparse, 64 << 10, 1);
    memset(sparse, 0xee, 64 << 10);
    return 0;
}

static void check_sparse(void) {
    for (size_t at = 0; at < SIZE; at += 256 << 10) {
        verify("touched pages", sparse + at, 64 << 10, 1 + at);
        verify_zero("untouched pages", sparse + at + (64 << 10), 192 << 10);
    }
}

int main(int argc, char **argv) {
    begin(argc, argv);
    sparse = map_anon(SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    for (size_t at = 0; at < SIZE; at += 256 << 10) {
        fill(sparse + at, 64 << 10, 1 + at);
        memset(sparse + at + (128 << 10), 0, 4096); // a page that is present and zero
    }
    uint8_t *area = map_anon(2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    huge = (uint8_t *)(((uintptr_t)area + (2 << 20) - 1) & ~((2UL << 20) - 1));
    madvise(huge, HUGE, MADV_HUGEPAGE);
    fill(huge, HUGE, 2);
    dropped = map_anon(1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    fill(dropped, 1 << 20, 3);
    grown = map_anon(1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    fill(grown, 1 << 20, 4);
    ready();
    uint64_t round = 0;
    uint8_t *churn = map_anon(64 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    while (!finishing()) {
        fill(churn, 64 << 10, 100 + round);
        check_sparse();
        verify("huge pages", huge, HUGE, 2);
        verify("pages to be dropped", dropped, 1 << 20, 3);
        verify("memory that changes all the time", churn, 64 << 10, 100 + round++);
    }
    CHECK_EQ("exit code", 0, exited(child(copy_on_write, NULL), "forked child"));
    check_sparse();
    SYS(madvise(dropped, 512 << 10, MADV_DONTNEED));
    verify_zero("memory after MADV_DONTNEED", dropped, 512 << 10);
    for (size_t i = 512 << 10; i < 1 << 20; i++) CHECK_EQ("byte beside MADV_DONTNEED", noise(3, i), dropped[i]);
    grown = mremap(grown, 1 << 20, 2 << 20, MREMAP_MAYMOVE);
    CHECK(grown != MAP_FAILED, "mremap: %s", strerror(errno));
    verify("memory after mremap", grown, 1 << 20, 4);
    verify_zero("memory that mremap added", grown + (1 << 20), 1 << 20);
    SYS(madvise(huge, HUGE, MADV_FREE));
    return ok();
}
