// Much memory, of which a few pages far behind are written all the time, as long as there is the file "warm"; the rest is not touched.
#include "../check.h"

enum { PAGES = 32 << 10, HOT = 64, FIRST = PAGES / 2, APART = 200 };

int main(int argc, char **argv) {
    begin(argc, argv);
    uint8_t *pages = map_anon(PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    for (uint64_t i = 0; i < PAGES; i++) put_words(pages + i * PAGE, PAGE, i + 1);
    uint64_t seeds[HOT];
    for (int i = 0; i < HOT; i++) seeds[i] = FIRST + i * APART + 1;
    char *warm = work_path("warm");
    say("pages %llu", (unsigned long long)(uintptr_t)pages);
    ready();
    for (uint64_t n = 0; !finishing(); n++) {
        if (access(warm, F_OK) != 0) {
            nap(5);
            continue;
        }
        int i = n % HOT;
        uint8_t *page = pages + (FIRST + i * APART) * PAGE;
        check_words("a hot page", page, PAGE, seeds[i]);
        put_words(page, PAGE, seeds[i] += PAGES);
    }
    for (uint64_t i = 0; i < PAGES; i++) {
        bool hot = i >= FIRST && (i - FIRST) % APART == 0 && (i - FIRST) / APART < HOT;
        check_words("a page at the end", pages + i * PAGE, PAGE, hot ? seeds[(i - FIRST) / APART] : i + 1);
    }
    return ok();
}
