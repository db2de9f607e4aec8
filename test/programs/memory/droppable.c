// MAP_DROPPABLE memory (Linux 6.11), where the vdso's getrandom keeps its state: it stays droppable, and its content
// must not be cloned by a checkpoint: after a restore it is zero.
#include "../check.h"
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif

int main(int argc, char **argv) {
    begin(argc, argv);
    uint8_t *p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_DROPPABLE, -1, 0);
    bool droppable = p != MAP_FAILED;
    if (droppable) fill(p, 4 * PAGE, 1);
    else lacks("MAP_DROPPABLE (mmap gives EINVAL; Linux 6.11)");
    ready();
    while (!finishing()) {
        if (droppable) {
            CHECK(vm_flag(p, "dp"), "the droppable mapping has lost its flag dp");
            // Byte by byte, for a checkpoint may fall between any two of them.
            for (int i = 0; i < 4 * PAGE; i++) {
                uint8_t c = p[i];
                CHECK(c == 0 || c == noise(1, i), "byte %d of droppable memory is %d, expected its content or zero", i, c);
            }
        }
        nap(10);
    }
    return ok();
}
