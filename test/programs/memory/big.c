// Much private memory (argv[3]: MB, 64 if it is not there), of which pages everywhere are checked and written all the time.
#include "../check.h"

int main(int argc, char **argv) {
    begin(argc, argv);
    size_t pages = ((argc > 3 ? strtoul(argv[3], NULL, 10) : 64) << 20) / PAGE;
    uint8_t *memory = map_anon(pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    uint64_t *seeds = calloc(pages, sizeof *seeds), next = 1, random_state = 88172645463325252ULL;
    for (size_t i = 0; i < pages; i++) put_words(memory + i * PAGE, PAGE, seeds[i] = next++);
    ready();
    while (!finishing()) {
        for (int n = 0; n < 16; n++) {
            size_t i = dice(&random_state, pages);
            check_words("a page", memory + i * PAGE, PAGE, seeds[i]);
            put_words(memory + i * PAGE, PAGE, seeds[i] = next++);
        }
        nap(20);
    }
    for (size_t i = 0; i < pages; i++) check_words("a page at the end", memory + i * PAGE, PAGE, seeds[i]);
    return ok();
}
