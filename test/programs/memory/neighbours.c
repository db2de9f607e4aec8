// Neighbouring mappings that differ only by advice. While they are made again they are one for the kernel, and a transparent huge page (where
// /sys/kernel/mm/transparent_hugepage/enabled says always) spans both.
#include "../check.h"

#define HUGE (2UL << 20)
#define SMALL (16 * PAGE)
#define LARGE (3UL << 20)

int main(int argc, char **argv) {
    begin(argc, argv);
    uint8_t *p = map_anon(4 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    p = (uint8_t *)(((uintptr_t)p + HUGE - 1) & ~(HUGE - 1));
    SYS(madvise(p + SMALL, LARGE, MADV_DONTDUMP));
    fill(p, SMALL, 1);
    fill(p + SMALL, LARGE / 2, 2);
    ready();
    while (!finishing()) {
        verify("small mapping", p, SMALL, 1);
        verify("its large neighbour", p + SMALL, LARGE / 2, 2);
        verify_zero("the untouched half of the neighbour", p + SMALL + LARGE / 2, LARGE / 2);
        nap(20);
    }
    return ok();
}
