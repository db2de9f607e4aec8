// Allocators at work: several threads allocate, resize and free blocks without pause, so that the C library moves the break, makes and drops arenas, moves
// and trims mappings. Every word of every block is known.
#include "../check.h"

#include <malloc.h>

enum { WORKERS = 3, BLOCKS = 400 };

static struct worker {
    char name[16];
    uint64_t random, seeds;
    struct block {
        uint8_t *at;
        size_t size;
        uint64_t seed;
    } blocks[BLOCKS];
    pthread_t thread;
} workers[WORKERS];
static volatile bool over;
static unsigned long working; // how many workers have filled all their blocks once

// size_for draws sizes as programs have them: most are small, and a few get a mapping of their own.
static size_t size_for(struct worker *w) {
    switch (dice(&w->random, 20)) {
    case 0:
        return 8 * (1 + dice(&w->random, 128 << 10));
    case 1:
    case 2:
    case 3:
        return 8 * (1 + dice(&w->random, 4 << 10));
    default:
        return 8 * (1 + dice(&w->random, 128));
    }
}

static void renew(struct worker *w, struct block *b) {
    b->seed = ++w->seeds * WORKERS + (w - workers);
    put_words(b->at, b->size, b->seed);
}

static void check_block(struct worker *w, struct block *b) { check_words(w->name, b->at, b->size, b->seed); }

static void allocate(struct worker *w, struct block *b) {
    b->size = size_for(w);
    if (dice(&w->random, 4)) {
        b->at = malloc(b->size);
        CHECK(b->at, "malloc of %zu bytes: %s", b->size, strerror(errno));
    } else {
        b->at = calloc(1, b->size);
        CHECK(b->at, "calloc of %zu bytes: %s", b->size, strerror(errno));
        check_words("memory from calloc", b->at, b->size, 0);
    }
    renew(w, b);
}

static void resize(struct worker *w, struct block *b) {
    size_t size = size_for(w);
    uint8_t *at = realloc(b->at, size);
    CHECK(at, "realloc from %zu to %zu bytes: %s", b->size, size, strerror(errno));
    check_words("a block after realloc", at, size < b->size ? size : b->size, b->seed);
    b->at = at, b->size = size;
    renew(w, b);
}

static void act(struct worker *w) {
    struct block *b = &w->blocks[dice(&w->random, BLOCKS)];
    check_block(w, b);
    switch (dice(&w->random, 8)) {
    case 0:
    case 1:
        resize(w, b);
        break;
    case 2:
    case 3:
        free(b->at);
        allocate(w, b);
        break;
    case 4:
        renew(w, b);
        break;
    }
    if (dice(&w->random, 512) == 0) malloc_trim(0);
}

static void *work(void *arg) {
    struct worker *w = arg;
    for (int i = 0; i < BLOCKS; i++) allocate(w, &w->blocks[i]);
    __atomic_add_fetch(&working, 1, __ATOMIC_SEQ_CST);
    while (!over) act(w);
    for (int i = 0; i < BLOCKS; i++) check_block(w, &w->blocks[i]);
    return NULL;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    // Fixed bounds: glibc would raise them, and then never again use a mapping or give back the end of the heap.
    CHECK_EQ("mallopt", 1, mallopt(M_MMAP_THRESHOLD, 128 << 10));
    CHECK_EQ("mallopt", 1, mallopt(M_TRIM_THRESHOLD, 128 << 10));
    for (int i = 0; i < WORKERS; i++) {
        struct worker *w = &workers[i];
        snprintf(w->name, sizeof w->name, "worker %d", i);
        w->random = i + 1;
        w->thread = thread(work, w);
    }
    UNTIL(__atomic_load_n(&working, __ATOMIC_SEQ_CST) == WORKERS, "the first blocks of all workers");
    ready();
    // The main arena, which grows and shrinks with the break, is this thread's.
    struct worker own = {.name = "main thread", .random = 99};
    for (int i = 0; i < BLOCKS; i++) allocate(&own, &own.blocks[i]);
    while (!finishing())
        for (int i = 0; i < 64; i++) act(&own);
    over = true;
    for (int i = 0; i < BLOCKS; i++) check_block(&own, &own.blocks[i]);
    for (int i = 0; i < WORKERS; i++) join(workers[i].thread);
    return ok();
}
