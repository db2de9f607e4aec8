// mlockall(MCL_FUTURE): what is mapped after the restore is locked too.
#include "../check.h"

int main(int argc, char **argv) {
    begin(argc, argv);
    SYS(mlockall(MCL_FUTURE));
    uint8_t *early = map_anon(4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    ready();
    while (!finishing()) {
        CHECK(vm_flag(early, "lo"), "memory mapped after mlockall(MCL_FUTURE) is no longer locked");
        uint8_t *p = map_anon(4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
        CHECK(vm_flag(p, "lo"), "new memory is not locked: mlockall(MCL_FUTURE) is lost");
        SYS(munmap(p, 4 * PAGE));
        nap(10);
    }
    return ok();
}
