// Equal pages that the kernel has made one (Documentation/admin-guide/mm/ksm.rst), in two processes. Both write to some, and each gets pages of its own for that. Ksmd must
// be running.
#include "../check.h"

enum { PAGES = 2048, CONTENTS = 4 };

static uint8_t *at;
static uint64_t seeds[PAGES], random_state = 88172645463325252ULL;

static uint8_t *page_of(unsigned i) { return at + (size_t)i * PAGE; }

static long merged(void) {
    char text[32] = "";
    int fd = SYS(open("/proc/self/ksm_merging_pages", O_RDONLY | O_CLOEXEC));
    SYS(read(fd, text, sizeof text - 1));
    close(fd);
    return atol(text);
}

static void await_merging(void) {
    int64_t end = now_ms() + 120000; // of an emulated machine, beside others
    while (merged() < PAGES / 2) {
        CHECK(now_ms() < end, "equal pages of %d that the kernel has merged, expected half of them within 2 minutes, got %ld", PAGES, merged());
        nap(50);
    }
}

static void live(uint64_t mine) {
    while (!finishing()) {
        unsigned i = dice(&random_state, PAGES);
        check_words("a merged page", page_of(i), PAGE, seeds[i]);
        if (i % 16 == 0) put_words(page_of(i), PAGE, seeds[i] = mine);
        nap(10);
    }
    for (unsigned i = 0; i < PAGES; i++) check_words("at the end", page_of(i), PAGE, seeds[i]);
}

static int in_child(void *unused) {
    (void)unused;
    random_state++;
    live(CONTENTS + 2);
    return 0;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    at = map_anon(PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    SYS(madvise(at, PAGES * PAGE, MADV_NOHUGEPAGE));
    SYS(madvise(at, PAGES * PAGE, MADV_MERGEABLE));
    for (unsigned i = 0; i < PAGES; i++) put_words(page_of(i), PAGE, seeds[i] = 1 + i % CONTENTS);
    await_merging();
    pid_t pid = child(in_child, NULL);
    ready();
    live(CONTENTS + 1);
    CHECK_EQ("exit code", 0, exited(pid, "the child"));
    return ok();
}
