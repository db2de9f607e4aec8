// Guard pages made by MADV_GUARD_INSTALL (Linux 6.13): a touch raises SIGSEGV, the neighbours keep their content.
#include "../check.h"
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

int main(int argc, char **argv) {
    begin(argc, argv);
    uint8_t *p = map_anon(8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    for (int i = 0; i < 8; i++) fill(p + i * PAGE, PAGE, i);
    bool guards = madvise(p + 3 * PAGE, 2 * PAGE, MADV_GUARD_INSTALL) == 0;
    if (!guards) lacks("guard pages (madvise MADV_GUARD_INSTALL gives EINVAL; Linux 6.13)");
    ready();
    while (!finishing()) {
        for (int i = 0; i < 8; i++)
            if (guards && (i == 3 || i == 4)) CHECK_EQ("signal of a touch of a guard page", SIGSEGV, touch_signal(p + i * PAGE, false));
            else verify("page beside a guard", p + i * PAGE, PAGE, i);
        nap(5);
    }
    if (guards) {
        SYS(madvise(p + 3 * PAGE, 2 * PAGE, MADV_GUARD_REMOVE));
        verify_zero("page after its guard was removed", p + 3 * PAGE, 2 * PAGE);
    }
    return ok();
}
