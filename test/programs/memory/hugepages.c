// Whole page tables of memory that change hands at once: moved to where something else was, and given up and read as zeros, both in units of huge pages, for
// which kernels have ways of their own.
#include "../check.h"

enum { HUGE = 2 << 20, UNITS = 6 };

// unit is as many bytes as one page table maps, aligned. Seed 0: zeros.
static struct unit {
    uint8_t *at;
    uint64_t seed;
} units[UNITS];
static uint64_t random_state = 1, next;

static void renew(struct unit *u) { put_words(u->at, HUGE, u->seed = ++next); }

static void check_unit(struct unit *u) { check_words("a unit", u->at, HUGE, u->seed); }

// replace moves one unit to where another is, and makes a new one where it was.
static void replace(struct unit *u, struct unit *by) {
    CHECK(mremap(by->at, HUGE, HUGE, MREMAP_MAYMOVE | MREMAP_FIXED, u->at) == u->at, "mremap: %s", strerror(errno));
    u->seed = by->seed;
    CHECK(mmap(by->at, HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == by->at, "mmap: %s", strerror(errno));
    by->seed = 0;
}

static void drop(struct unit *u) {
    SYS(madvise(u->at, HUGE, MADV_DONTNEED));
    u->seed = 0;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    // Apart, so that none of them is one mapping with another.
    uint8_t *room = map_anon((2 * UNITS + 1) * HUGE, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE);
    uint8_t *first = (uint8_t *)(((uintptr_t)room + HUGE - 1) & ~(uintptr_t)(HUGE - 1));
    for (int i = 0; i < UNITS; i++) {
        struct unit *u = &units[i];
        u->at = first + 2 * i * HUGE;
        SYS(mprotect(u->at, HUGE, PROT_READ | PROT_WRITE));
        // Half of them with small pages, and so with page tables to move.
        if (i % 2) SYS(madvise(u->at, HUGE, MADV_NOHUGEPAGE));
        renew(u);
    }
    ready();
    while (!finishing()) {
        unsigned i = dice(&random_state, UNITS), other = (i + 2) % UNITS;
        check_unit(&units[i]);
        switch (dice(&random_state, 8)) {
        case 0:
            drop(&units[i]);
            check_unit(&units[i]); // what is read first is the zero page
            break;
        case 1:
            replace(&units[i], &units[other]);
            if (i % 2) SYS(madvise(units[other].at, HUGE, MADV_NOHUGEPAGE));
            break;
        case 2:
        case 3:
        case 4:
            renew(&units[i]);
            break;
        default:
            nap(10);
        }
    }
    for (int i = 0; i < UNITS; i++) check_unit(&units[i]);
    return ok();
}
