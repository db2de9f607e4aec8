// Private memory that is swapped out (argv[3]: MB, 8 if it is not there), as far as the machine has swap space.
#include "../check.h"

int main(int argc, char **argv) {
    begin(argc, argv);
    size_t size = (argc > 3 ? strtoul(argv[3], NULL, 10) : 8) << 20;
    uint8_t *p = map_anon(size, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    put_words(p, size, 1);
    if (madvise(p, size, MADV_PAGEOUT) != 0) lacks("MADV_PAGEOUT (Linux 5.4)");
    ready();
    while (!finishing()) nap(20);
    check_words("memory that was swapped out", p, size, 1);
    return ok();
}
