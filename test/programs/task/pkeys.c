// Memory protection keys: the key of a mapping, and each thread's rights.
#include "../check.h"
#include <cpuid.h>

int main(int argc, char **argv) {
    begin(argc, argv);
    unsigned a, b, c = 0, d;
    __get_cpuid_count(7, 0, &a, &b, &c, &d);
    if (!(c & (1 << 4))) {
        lacks("protection keys (cpuid 7.0 ecx bit 4, OSPKE)");
        ready();
        while (!finishing()) nap(10);
        return ok();
    }
    int closed = SYS(pkey_alloc(0, PKEY_DISABLE_ACCESS)), readonly = SYS(pkey_alloc(0, PKEY_DISABLE_WRITE));
    uint8_t *p = map_anon(4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    fill(p, PAGE, 1);
    fill(p + PAGE, PAGE, 2);
    SYS(pkey_mprotect(p, PAGE, PROT_READ | PROT_WRITE, closed));
    SYS(pkey_mprotect(p + PAGE, PAGE, PROT_READ | PROT_WRITE, readonly));
    ready();
    while (!finishing()) {
        CHECK_EQ("rights for the closed key", PKEY_DISABLE_ACCESS, pkey_get(closed));
        CHECK_EQ("rights for the read-only key", PKEY_DISABLE_WRITE, pkey_get(readonly));
        CHECK_EQ("signal of a read through the closed key", SIGSEGV, touch_signal(p, false));
        CHECK_EQ("signal of a write through the read-only key", SIGSEGV, touch_signal(p + PAGE, true));
        verify("read-only page", p + PAGE, PAGE, 2);
        nap(5);
    }
    pkey_set(closed, 0);
    verify("closed page", p, PAGE, 1);
    return ok();
}
