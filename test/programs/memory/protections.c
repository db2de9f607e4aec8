// Protections: PROT_NONE with content, read-only, write-only, code made at run time, each raising the right signal.
#include "../check.h"

int main(int argc, char **argv) {
    begin(argc, argv);
    uint8_t *p = map_anon(10 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    uint8_t *hidden = p, *readonly = p + 2 * PAGE, *code = p + 4 * PAGE, *everything = p + 6 * PAGE, *writeonly = p + 8 * PAGE;
    fill(hidden, PAGE, 1);
    fill(readonly, PAGE, 2);
    static const uint8_t instructions[] = {0xb8, 0x39, 0x30, 0, 0, 0xc3}; // mov $12345, %eax; ret
    memcpy(code, instructions, sizeof instructions);
    memcpy(everything, instructions, sizeof instructions);
    uint8_t *reserved = map_anon(1 << 30, PROT_NONE, MAP_PRIVATE);
    uint8_t *shared = map_anon(4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    fill(shared, 4 * PAGE, 3);
    SYS(mprotect(shared, PAGE, PROT_NONE));
    SYS(mprotect(hidden, PAGE, PROT_NONE));
    SYS(mprotect(readonly, PAGE, PROT_READ));
    SYS(mprotect(code, PAGE, PROT_READ | PROT_EXEC));
    SYS(mprotect(everything, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
    SYS(mprotect(writeonly, PAGE, PROT_WRITE));
    ready();
    while (!finishing()) {
        CHECK_EQ("signal of a read of PROT_NONE", SIGSEGV, touch_signal(hidden, false));
        CHECK_EQ("signal of a read of shared PROT_NONE", SIGSEGV, touch_signal(shared, false));
        CHECK_EQ("signal of a write of read-only", SIGSEGV, touch_signal(readonly, true));
        CHECK_EQ("signal of a write of code", SIGSEGV, touch_signal(code, true));
        CHECK_EQ("signal of a read of reserved space", SIGSEGV, touch_signal(reserved + (512 << 20), false));
        verify("read-only page", readonly, PAGE, 2);
        CHECK_EQ("value of generated code", 12345, ((int (*)(void))code)());
        everything[1]++;
        CHECK_EQ("value of code that changes", 12345 - 0x39 + everything[1], ((int (*)(void))everything)());
        writeonly[7] = 7;
        nap(5);
    }
    SYS(mprotect(hidden, PAGE, PROT_READ));
    SYS(mprotect(shared, PAGE, PROT_READ));
    verify("content of PROT_NONE", hidden, PAGE, 1);
    verify("content of shared memory", shared, 4 * PAGE, 3);
    SYS(mprotect(reserved, PAGE, PROT_READ | PROT_WRITE));
    verify_zero("reserved space, made usable", reserved, PAGE);
    return ok();
}
