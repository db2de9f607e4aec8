// Stacks that grow: the main stack, and a mapping of our own with MAP_GROWSDOWN.
#include "../check.h"

static uint64_t recurse(int depth, uint64_t seed) {
    volatile uint8_t frame[8192];
    for (size_t i = 0; i < sizeof frame; i += 64) frame[i] = noise(seed, i);
    uint64_t sum = depth ? recurse(depth - 1, seed + 1) : 0;
    for (size_t i = 0; i < sizeof frame; i += 64) CHECK_EQ("byte of a stack frame", noise(seed, i), frame[i]);
    return sum + 1;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    CHECK_EQ("frames", 21, recurse(20, 1));
    // The kernel keeps a gap below a growing mapping, so leave room: reserve, then free all but the top.
    uint8_t *room = map_anon(16 << 20, PROT_NONE, MAP_PRIVATE);
    SYS(munmap(room, 16 << 20));
    uint8_t *top = room + (16 << 20) - 4 * PAGE;
    uint8_t *p = mmap(top, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(p == top, "mmap of a growing mapping: %s", strerror(errno));
    p -= PAGE;
    *p = 1; // grow once
    fill(p, 5 * PAGE, 3);
    ready();
    while (!finishing()) {
        verify("growing mapping", p, 5 * PAGE, 3);
        CHECK(vm_flag(p, "gd"), "the growing mapping has lost its flag gd");
        CHECK_EQ("frames", 21, recurse(20, 5));
        nap(5);
    }
    for (int i = 0; i < 100; i++) {
        p -= PAGE;
        CHECK_EQ("signal of a touch below the growing mapping", 0, touch_signal(p, true));
    }
    verify("growing mapping", p + 100 * PAGE, 5 * PAGE, 3);
    CHECK_EQ("frames of a deep recursion", 701, recurse(700, 1)); // some 6 MB of the usual 8
    return ok();
}
