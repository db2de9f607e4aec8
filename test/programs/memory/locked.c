// Locked memory: mlock, and mlock2 with MLOCK_ONFAULT.
#include "../check.h"

enum { SIZE = 16 * PAGE };

static long locked_kb(void) {
    char line[256];
    long kb = -1;
    FILE *f = fopen("/proc/self/status", "re");
    while (fgets(line, sizeof line, f)) sscanf(line, "VmLck: %ld", &kb);
    fclose(f);
    return kb;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    uint8_t *p = map_anon(4 * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    uint8_t *now = p, *onfault = p + 2 * SIZE;
    SYS(mlock(now, SIZE));
    SYS(mlock2(onfault, SIZE, MLOCK_ONFAULT));
    fill(now, SIZE, 1);
    fill(onfault, PAGE, 2);
    long before = locked_kb();
    ready();
    while (!finishing()) {
        verify("locked memory", now, SIZE, 1);
        verify("memory locked on fault", onfault, PAGE, 2);
        CHECK(vm_flag(now, "lo") && !vm_flag(now, "lf"), "locked memory, expected flag lo without lf");
        CHECK(vm_flag(onfault, "lo") && vm_flag(onfault, "lf"), "memory locked on fault, expected flags lo and lf");
        CHECK(!vm_flag(p + SIZE, "lo"), "ordinary memory has become locked");
        unsigned char present[16];
        SYS(mincore(onfault, SIZE, present));
        for (int i = 1; i < 16; i++) CHECK(!(present[i] & 1), "page %d of memory locked on fault is present, was never touched", i);
        CHECK_EQ("VmLck in kB", before, locked_kb());
        nap(10);
    }
    return ok();
}
