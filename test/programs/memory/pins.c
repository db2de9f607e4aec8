// A little memory in every corner of the machine that cannot be moved: a pipe holds the very pages (vmsplice(2)), argv[3] MB apart from first to last.
#include "../check.h"
#include <sys/uio.h>

enum { PINS = 64 };

int main(int argc, char **argv) {
    begin(argc, argv);
    size_t size = (argc > 3 ? strtoul(argv[3], NULL, 10) : 64) << 20, apart = size / PINS;
    uint8_t *p = map_anon(size, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    SYS(madvise(p, size, MADV_NOHUGEPAGE));
    for (size_t at = 0; at < size; at += PAGE) put_words(p + at, PAGE, at + 1);
    int ends[2];
    SYS(pipe(ends));
    SYS(fcntl(ends[1], F_SETPIPE_SZ, PINS * PAGE));
    for (int i = 0; i < PINS; i++) {
        struct iovec page = {p + i * apart, PAGE};
        CHECK_EQ("bytes in the pipe", PAGE, SYS(vmsplice(ends[1], &page, 1, SPLICE_F_NONBLOCK)));
        SYS(madvise(p + i * apart + PAGE, apart - PAGE, MADV_DONTNEED));
    }
    ready();
    while (!finishing()) nap(20);
    for (int i = 0; i < PINS; i++) {
        uint8_t page[PAGE];
        CHECK_EQ("bytes of the pipe", PAGE, SYS(read(ends[0], page, PAGE)));
        check_words("the pipe", page, PAGE, i * apart + 1);
        check_words("what it holds", p + i * apart, PAGE, i * apart + 1);
    }
    return ok();
}
