// mlockall(MCL_FUTURE): what is mapped after the restore is locked too.
#include "../check.h"

static uint8_t *early;

static void check_flags(void) {
    CHECK(vm_flag(early, "lo"), "memory mapped after mlockall(MCL_FUTURE) is no longer locked");
    uint8_t *p = map_anon(4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    CHECK(vm_flag(p, "lo"), "new memory is not locked: mlockall(MCL_FUTURE) is lost");
    SYS(munmap(p, 4 * PAGE));
}

int main(int argc, char **argv) {
    begin(argc, argv);
    SYS(mlockall(MCL_FUTURE));
    early = map_anon(4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    check_flags();
    ready();
    for (int round = 1; !finishing(); round++) {
        if (round % 64 == 0) check_flags(); // rarely: see locked.c
        nap(10);
    }
    check_flags();
    return ok();
}
