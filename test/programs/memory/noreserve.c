// A reservation of 64 GB with MAP_NORESERVE and a few pages in it: the image must stay small, the rest absent.
#include "../check.h"

int main(int argc, char **argv) {
    begin(argc, argv);
    const size_t size = 64UL << 30, step = 7UL << 30;
    uint8_t *p = map_anon(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE);
    for (size_t at = 0; at < size; at += step) fill(p + at, PAGE, at);
    ready();
    while (!finishing()) {
        CHECK(vm_flag(p, "nr"), "the reservation has lost its flag nr");
        for (size_t at = 0; at < size; at += step) verify("page of the reservation", p + at, PAGE, at);
        char line[256];
        smaps_line(p, "Rss:", line, sizeof line);
        CHECK(strtol(line + 4, NULL, 10) < 1024, "memory of the reservation, expected a few pages, got %s", line);
        nap(10);
    }
    verify_zero("untouched page", p + step + PAGE, PAGE);
    return ok();
}
