// Much private memory of several kinds (argv[3]: MB, 256 if it is not there), in three processes: huge pages, pages with holes between them, and pages that the children have
// inherited. All write without pause, each on pages of its own or on copies, and check what is there.
#include "../check.h"

#define HUGE (2UL << 20)
enum { PARTS = 3, CHILDREN = 2, APART = 3 };

typedef struct {
    const char *what;
    uint8_t *at;
    unsigned pages; // of memory
    unsigned apart; // only every so many-th page is touched
    uint64_t *seeds;
} part;
static part parts[PARTS];
static uint64_t next = 1, random_state = 88172645463325252ULL;

static uint8_t *page_of(const part *p, unsigned i) { return p->at + (size_t)i * p->apart * PAGE; }

static unsigned touched(const part *p) { return p->pages / p->apart; }

static void renew(part *p, unsigned i) { put_words(page_of(p, i), PAGE, p->seeds[i] = next++); }

static void set_up(part *p, const char *what, size_t size, unsigned apart, int advice) {
    uint8_t *area = map_anon(size + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    *p = (part){what, (uint8_t *)(((uintptr_t)area + HUGE - 1) & ~(HUGE - 1)), size / PAGE, apart, NULL};
    p->seeds = calloc(touched(p), sizeof *p->seeds);
    madvise(p->at, size, advice);
    for (unsigned i = 0; i < touched(p); i++) renew(p, i);
}

static void check_all(const char *who) {
    for (int n = 0; n < PARTS; n++) {
        part *p = &parts[n];
        for (unsigned i = 0; i < touched(p); i++) check_words(p->what, page_of(p, i), PAGE, p->seeds[i]);
        if (p->apart == 1) continue;
        for (unsigned i = 0; i < touched(p); i += 16) verify_zero("a hole", page_of(p, i) + PAGE, PAGE);
    }
    say("%s has checked all", who);
}

// live checks and writes a few pages at a time until the end.
static void live(const char *who) {
    while (!finishing()) {
        part *p = &parts[dice(&random_state, PARTS)];
        for (int n = 0; n < 8; n++) {
            unsigned i = dice(&random_state, touched(p));
            check_words(p->what, page_of(p, i), PAGE, p->seeds[i]);
            // Of what is inherited only a part is ever written, so that much stays shared.
            if (p->seeds != parts[PARTS - 1].seeds || i % 4 == 0) renew(p, i);
        }
        nap(5);
    }
    check_all(who);
}

static int in_child(void *number) {
    random_state += (uintptr_t)number;
    next += (uintptr_t)number << 40;
    for (int n = 0; n < PARTS - 1; n++) { // these it leaves to its parent
        SYS(munmap(parts[n].at, (size_t)parts[n].pages * PAGE));
        parts[n] = parts[PARTS - 1];
    }
    live("a child");
    return 0;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    size_t size = (argc > 3 ? strtoul(argv[3], NULL, 10) : 256) << 20;
    size_t third = size / 3 & ~(HUGE - 1);
    set_up(&parts[0], "huge pages", third, 1, MADV_HUGEPAGE);
    set_up(&parts[1], "scattered pages", third * APART, APART, MADV_NOHUGEPAGE);
    set_up(&parts[2], "inherited pages", third, 1, MADV_NOHUGEPAGE);
    pid_t children[CHILDREN];
    for (uintptr_t i = 0; i < CHILDREN; i++) children[i] = child(in_child, (void *)(i + 1));
    ready();
    live("the parent");
    for (int i = 0; i < CHILDREN; i++) CHECK_EQ("exit code", 0, exited(children[i], "a child"));
    return ok();
}
