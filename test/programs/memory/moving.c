// Memory that moves all the time and is hardly ever written, beside other memory that is written all the time.
#include "../check.h"

enum { SLAB = 128 << 10, SLABS = 64, BUSY = 16 << 20 };

static struct {
    uint8_t *at;
    uint64_t seed;
} slabs[SLABS];
static volatile bool over;

static void *write_all(void *arg) {
    uint8_t *busy = arg;
    for (uint64_t seed = 1; !over; seed++) {
        put_words(busy, BUSY, seed);
        check_words("memory that is written", busy, BUSY, seed);
    }
    return NULL;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    uint64_t random = 1, next = 0;
    for (int i = 0; i < SLABS; i++) {
        slabs[i].at = map_anon(SLAB, PROT_READ | PROT_WRITE, MAP_PRIVATE);
        put_words(slabs[i].at, SLAB, slabs[i].seed = ++next);
    }
    pthread_t writer = thread(write_all, map_anon(BUSY, PROT_READ | PROT_WRITE, MAP_PRIVATE));
    ready();
    while (!finishing()) {
        int i = dice(&random, SLABS);
        check_words("memory that moves", slabs[i].at, SLAB, slabs[i].seed);
        // To where nothing is joined with it: mremap(2) moves only what is one mapping.
        uint8_t *room = map_anon(SLAB + 2 * PAGE, PROT_NONE, MAP_PRIVATE);
        void *to = mremap(slabs[i].at, SLAB, SLAB, MREMAP_MAYMOVE | MREMAP_FIXED, room + PAGE);
        CHECK(to == room + PAGE, "mremap: %s", strerror(errno));
        SYS(munmap(room, PAGE));
        SYS(munmap(room + PAGE + SLAB, PAGE));
        slabs[i].at = to;
        if (dice(&random, 8) == 0) put_words(slabs[i].at, SLAB, slabs[i].seed = ++next);
        nap(1);
    }
    over = true;
    join(writer);
    for (int i = 0; i < SLABS; i++) check_words("memory that moved", slabs[i].at, SLAB, slabs[i].seed);
    return ok();
}
