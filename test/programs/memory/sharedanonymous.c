// Shared anonymous memory of a parent, a child, and a grandchild that maps only a part of it: each sees what the
// others write.
#include "../check.h"

enum { SIZE = 4 << 20 };
static uint8_t *p;

struct counters {
    volatile uint64_t of[3];
    volatile uint32_t over;
};

static int work(int me) {
    struct counters *c = (struct counters *)(p + SIZE - PAGE);
    uint64_t seen[3] = {0};
    int64_t moved = now_ms();
    while (!finishing()) {
        c->of[me]++;
        verify("shared memory", p + SIZE / 2, PAGE * 16, 2);
        bool all = true;
        for (int i = 0; i < 3; i++) all = all && c->of[i] > seen[i];
        if (all) {
            for (int i = 0; i < 3; i++) seen[i] = c->of[i];
            moved = now_ms();
        }
        CHECK(now_ms() - moved < 10000, "counters of the others, expected to move, stayed at %lu %lu %lu for 10 s", c->of[0], c->of[1], c->of[2]);
        nap(5);
    }
    return 0;
}

static int grandchild(void *unused) {
    (void)unused;
    SYS(munmap(p, SIZE / 2));
    return work(2);
}

static int middle(void *unused) {
    (void)unused;
    pid_t pid = child(grandchild, NULL);
    int code = work(1);
    CHECK_EQ("exit code of the grandchild", 0, exited(pid, "grandchild"));
    verify("first half of the shared memory", p, SIZE / 2, 1);
    return code;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    p = map_anon(SIZE, PROT_READ | PROT_WRITE, MAP_SHARED);
    fill(p, SIZE / 2, 1);
    fill(p + SIZE / 2, PAGE * 16, 2);
    pid_t pid = child(middle, NULL);
    struct counters *c = (struct counters *)(p + SIZE - PAGE);
    UNTIL(c->of[2], "the grandchild");
    ready();
    work(0);
    CHECK_EQ("exit code of the child", 0, exited(pid, "child"));
    verify("first half of the shared memory", p, SIZE / 2, 1);
    verify_zero("untouched part", p + SIZE / 2 + PAGE * 16, SIZE / 2 - PAGE * 17);
    return ok();
}
