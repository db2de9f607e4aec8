// Locked memory: mlock, mlock2 with MLOCK_ONFAULT, and MAP_LOCKED.
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

// shows_on_fault tells whether the kernel says of a mapping that it is locked on fault.
static bool shows_on_fault(void) {
    uint8_t *p = map_anon(PAGE, PROT_READ, MAP_PRIVATE);
    SYS(mlock2(p, PAGE, MLOCK_ONFAULT));
    bool shows = vm_flag(p, "lf");
    SYS(munmap(p, PAGE));
    return shows;
}

static uint8_t *now, *between, *onfault, *born;
static long locked;

// check_flags reads smaps, which nobody can take along who is just being checkpointed: programs do so now and then.
static void check_flags(void) {
    CHECK(vm_flag(now, "lo") && !vm_flag(now, "lf"), "locked memory, expected flag lo without lf");
    CHECK(vm_flag(born, "lo") && !vm_flag(born, "lf"), "memory mapped with MAP_LOCKED, expected flag lo without lf");
    CHECK(vm_flag(onfault, "lo") && vm_flag(onfault, "lf") == shows_on_fault(), "memory locked on fault, expected flags lo and, if the kernel has it, lf");
    CHECK(!vm_flag(between, "lo"), "ordinary memory has become locked");
    CHECK_EQ("VmLck in kB", locked, locked_kb());
}

int main(int argc, char **argv) {
    begin(argc, argv);
    now = map_anon(4 * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE), between = now + SIZE, onfault = now + 2 * SIZE;
    SYS(mlock(now, SIZE));
    SYS(mlock2(onfault, SIZE, MLOCK_ONFAULT));
    uint8_t *apart = map_anon(3 * SIZE, PROT_NONE, MAP_PRIVATE); // from other locked memory
    born = SYS(mmap(apart + SIZE, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_LOCKED, -1, 0));
    fill(now, SIZE, 1);
    fill(born, SIZE / 2, 3);
    fill(onfault, PAGE, 2);
    locked = locked_kb();
    check_flags();
    ready();
    for (int round = 1; !finishing(); round++) {
        verify("locked memory", now, SIZE, 1);
        verify("memory mapped with MAP_LOCKED", born, SIZE / 2, 3);
        verify_zero("the rest of it", born + SIZE / 2, SIZE / 2);
        verify("memory locked on fault", onfault, PAGE, 2);
        unsigned char present[16];
        SYS(mincore(onfault, SIZE, present));
        for (int i = 1; i < 16; i++) CHECK(!(present[i] & 1), "page %d of memory locked on fault is present, was never touched", i);
        if (round % 64 == 0) check_flags();
        nap(10);
    }
    check_flags();
    return ok();
}
