// The smallest program worth a checkpoint: one thread, a counter, some memory. Built dynamic and static.
#include "../check.h"

static uint8_t bss[1 << 20];
static uint64_t data = 0x1122334455667788;

int main(int argc, char **argv) {
    begin(argc, argv);
    struct ids ids = ids_now();
    fill(bss, sizeof bss, 1);
    uint8_t *heap = malloc(300000);
    fill(heap, 300000, 2);
    uint8_t stack[60000];
    fill(stack, sizeof stack, 3);
    ready();
    uint64_t count = 0;
    while (!finishing()) {
        check_ids("the program", &ids, false);
        verify("bss", bss, sizeof bss, 1);
        verify("heap", heap, 300000, 2);
        verify("stack", stack, sizeof stack, 3);
        CHECK_EQ("counter in data", 0x1122334455667788 + count, data);
        data++, count++;
        nap(5);
    }
    return ok();
}
