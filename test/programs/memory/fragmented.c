// Memory of which every other page was given back (argv[3]: MB that stay, 16 if it is not there): page frames that are neighbours of nobody's, half of them in what
// were huge pages. A few pages at a time are checked and written.
#include "../check.h"

#define HUGE (2UL << 20)
enum { APART = 2 };

static uint8_t *at;
static unsigned pages;
static uint64_t *seeds, next = 1, random_state = 88172645463325252ULL;

static uint8_t *page_of(unsigned i) { return at + (size_t)i * APART * PAGE; }

static void check_page(unsigned i) {
    check_words("a page that stays", page_of(i), PAGE, seeds[i]);
    if (i % 8 == 0) verify_zero("a page that was given back", page_of(i) + PAGE, PAGE);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    size_t size = ((argc > 3 ? strtoul(argv[3], NULL, 10) : 16) << 20) * APART;
    uint8_t *area = map_anon(size + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    at = (uint8_t *)(((uintptr_t)area + HUGE - 1) & ~(HUGE - 1));
    madvise(at, size / 2, MADV_HUGEPAGE);
    madvise(at + size / 2, size / 2, MADV_NOHUGEPAGE);
    memset(at, 1, size);
    pages = size / PAGE / APART;
    seeds = calloc(pages, sizeof *seeds);
    for (unsigned i = 0; i < pages; i++) {
        put_words(page_of(i), PAGE, seeds[i] = next++);
        SYS(madvise(page_of(i) + PAGE, PAGE, MADV_DONTNEED));
    }
    ready();
    while (!finishing()) {
        for (int n = 0; n < 8; n++) {
            unsigned i = dice(&random_state, pages);
            check_page(i);
            if (i % 4 == 0) put_words(page_of(i), PAGE, seeds[i] = next++);
        }
        nap(10);
    }
    for (unsigned i = 0; i < pages; i++) check_page(i);
    return ok();
}
