// Memory that is changed in every way while it may still be on its way back: dropped, unmapped, moved, grown, protected, inherited by children (unless argv[3] is
// "childless"). Every page is known by its seed, and 0 stands for a page of zeros.
#include "../check.h"

enum { SLAB = 512 << 10, PAGES = SLAB / PAGE, SLABS = 32, STILL = 64 << 20, CHILDREN = 3 };

static void put_page(uint8_t *at, uint64_t seed) { put_words(at, PAGE, seed); }

static void check_page(const char *who, const uint8_t *at, uint64_t seed) { check_words(who, at, PAGE, seed); }

// mutator is a thread with slabs of its own.
struct mutator {
    const char *name;
    uint64_t random, next;
    struct slab {
        uint8_t *at;
        uint64_t seeds[PAGES];
    } slabs[SLABS];
    pid_t children[CHILDREN];
    pthread_t thread;
};

static struct mutator mutators[2] = {{.name = "first mutator", .random = 1}, {.name = "second mutator", .random = 2}};
static uint8_t *still;
static volatile bool over;
static bool childless;

static void renew(struct mutator *m, struct slab *s, unsigned from, unsigned to) {
    for (unsigned i = from; i < to; i++) put_page(s->at + i * PAGE, s->seeds[i] = 2 * ++m->next + (m == mutators));
}

static void zeroed(struct slab *s, unsigned from, unsigned to) {
    for (unsigned i = from; i < to; i++) s->seeds[i] = 0;
}

static void check_slab(const char *who, struct slab *s) {
    for (unsigned i = 0; i < PAGES; i++) check_page(who, s->at + i * PAGE, s->seeds[i]);
}

// in_child looks at memory that the parent may not have got back yet, and changes it.
static int in_child(void *arg) {
    struct mutator *m = arg;
    m->name = m == mutators ? "child of the first mutator" : "child of the second mutator";
    m->random += getpid();
    for (int n = 0; n < 8; n++) {
        struct slab *s = &m->slabs[dice(&m->random, SLABS)];
        check_slab(m->name, s);
        if (dice(&m->random, 2)) {
            SYS(madvise(s->at, SLAB / 2, MADV_DONTNEED));
            zeroed(s, 0, PAGES / 2);
        }
        renew(m, s, PAGES - 4, PAGES);
        check_slab(m->name, s);
    }
    return 0;
}

static void fork_one(struct mutator *m) {
    pid_t *slot = &m->children[dice(&m->random, CHILDREN)];
    if (*slot) CHECK_EQ("exit code of a child", 0, exited(*slot, "child"));
    *slot = child(in_child, m);
}

// is_one_mapping tells whether a slab can be moved as a whole: mremap(2) refuses what consists of several mappings, or moves a part of it.
static bool is_one_mapping(struct slab *s) {
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps != NULL, "/proc/self/maps: %s", strerror(errno));
    bool one = false;
    while (fgets(line, sizeof line, maps)) {
        uintptr_t start, end;
        CHECK_EQ("numbers in a line of /proc/self/maps", 2, sscanf(line, "%lx-%lx", &start, &end));
        if (start <= (uintptr_t)s->at && (uintptr_t)s->at < end) one = (uintptr_t)s->at + SLAB <= end;
    }
    fclose(maps);
    return one;
}

// move puts a slab somewhere else, sometimes larger for a moment.
static void move(struct mutator *m, struct slab *s) {
    if (!is_one_mapping(s)) return;
    uint8_t *to;
    if (dice(&m->random, 2)) {
        uint8_t *room = map_anon(SLAB, PROT_NONE, MAP_PRIVATE);
        to = mremap(s->at, SLAB, SLAB, MREMAP_MAYMOVE | MREMAP_FIXED, room);
        CHECK(to != MAP_FAILED, "mremap to an address: %s", strerror(errno));
    } else {
        to = mremap(s->at, SLAB, 2 * SLAB, MREMAP_MAYMOVE);
        CHECK(to != MAP_FAILED, "mremap to twice the size: %s", strerror(errno));
        check_page("memory that mremap added", to + SLAB + dice(&m->random, PAGES) * PAGE, 0);
        CHECK(mremap(to, 2 * SLAB, SLAB, 0) == to, "mremap to the old size: %s", strerror(errno));
    }
    s->at = to;
}

static void act(struct mutator *m) {
    struct slab *s = &m->slabs[dice(&m->random, SLABS)];
    unsigned from = dice(&m->random, PAGES), to = from + 1 + dice(&m->random, PAGES - from);
    uint8_t *at = s->at + from * PAGE;
    size_t size = (to - from) * PAGE;
    switch (dice(&m->random, 16)) {
    case 0:
    case 1:
        SYS(madvise(at, size, MADV_DONTNEED));
        zeroed(s, from, to);
        break;
    case 2:
        renew(m, s, from, to);
        break;
    case 3:
        move(m, s);
        break;
    case 4:
        CHECK(mmap(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at, "mmap: %s", strerror(errno));
        zeroed(s, from, to);
        break;
    case 5:
        SYS(munmap(s->at, SLAB));
        s->at = map_anon(SLAB, PROT_READ | PROT_WRITE, MAP_PRIVATE);
        zeroed(s, 0, PAGES);
        renew(m, s, from, to);
        break;
    case 6:
        SYS(mprotect(at, size, PROT_READ));
        check_page(m->name, at, s->seeds[from]);
        SYS(mprotect(at, size, PROT_READ | PROT_WRITE));
        break;
    case 7:
        if (!childless) fork_one(m);
        break;
    default:
        check_page(m->name, at, s->seeds[from]);
        renew(m, s, from, from + 1);
    }
}

static void *mutate(void *arg) {
    struct mutator *m = arg;
    while (!over) {
        act(m);
        if (dice(&m->random, 64) == 0) check_slab(m->name, &m->slabs[dice(&m->random, SLABS)]);
    }
    for (int i = 0; i < CHILDREN; i++)
        if (m->children[i]) CHECK_EQ("exit code of a child", 0, exited(m->children[i], "child"));
    for (int i = 0; i < SLABS; i++) check_slab(m->name, &m->slabs[i]);
    return NULL;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    childless = argc > 3 && strcmp(argv[3], "childless") == 0;
    still = map_anon(STILL, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    for (size_t i = 0; i < STILL / PAGE; i++) put_page(still + i * PAGE, i + 1);
    for (int i = 0; i < 2; i++) {
        struct mutator *m = &mutators[i];
        for (int n = 0; n < SLABS; n++) {
            m->slabs[n].at = map_anon(SLAB, PROT_READ | PROT_WRITE, MAP_PRIVATE);
            renew(m, &m->slabs[n], 0, PAGES);
        }
        m->thread = thread(mutate, m);
    }
    ready();
    while (!finishing())
        for (size_t i = 0; i < STILL / PAGE; i++) check_page("memory that stays as it is", still + (i * 7919 % (STILL / PAGE)) * PAGE, i * 7919 % (STILL / PAGE) + 1);
    over = true;
    for (int i = 0; i < 2; i++) join(mutators[i].thread);
    for (size_t i = 0; i < STILL / PAGE; i++) check_page("memory that stayed as it was", still + i * PAGE, i + 1);
    return ok();
}
