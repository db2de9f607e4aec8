// What madvise set stays set, in /proc/PID/smaps and in what it does.
#include "../check.h"

enum { SIZE = 4 * PAGE };
static const struct {
    int advice;
    const char *name, *flag;
} advices[] = {
    {MADV_DONTFORK, "MADV_DONTFORK", "dc"},     {MADV_WIPEONFORK, "MADV_WIPEONFORK", "wf"}, {MADV_DONTDUMP, "MADV_DONTDUMP", "dd"},
    {MADV_HUGEPAGE, "MADV_HUGEPAGE", "hg"},     {MADV_NOHUGEPAGE, "MADV_NOHUGEPAGE", "nh"}, {MADV_MERGEABLE, "MADV_MERGEABLE", "mg"},
    {MADV_SEQUENTIAL, "MADV_SEQUENTIAL", "sr"}, {MADV_RANDOM, "MADV_RANDOM", "rr"},
};
enum { N = sizeof advices / sizeof *advices };
static uint8_t *p[N];

static int after_fork(void *unused) {
    (void)unused;
    CHECK_EQ("signal of a touch of MADV_DONTFORK memory in a child", SIGSEGV, touch_signal(p[0], false));
    verify_zero("MADV_WIPEONFORK memory in a child", p[1], SIZE);
    verify("ordinary memory in a child", p[2], SIZE, 2);
    return 0;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    bool present[N];
    for (int i = 0; i < N; i++) {
        // A hole on both sides, so that neighbours are never one mapping.
        p[i] = map_anon(3 * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
        SYS(munmap(p[i], SIZE));
        SYS(munmap(p[i] + 2 * SIZE, SIZE));
        p[i] += SIZE;
        fill(p[i], SIZE, i);
        present[i] = madvise(p[i], SIZE, advices[i].advice) == 0;
        if (!present[i]) say("lacks: %s (madvise: %s)", advices[i].name, strerror(errno));
    }
    ready();
    while (!finishing()) {
        for (int i = 0; i < N; i++) {
            if (!present[i]) continue;
            CHECK(vm_flag(p[i], advices[i].flag), "%s is lost: no %s in VmFlags", advices[i].name, advices[i].flag);
            verify(advices[i].name, p[i], SIZE, i);
        }
        CHECK_EQ("exit code of a child", 0, exited(child(after_fork, NULL), "child"));
        nap(20);
    }
    return ok();
}
