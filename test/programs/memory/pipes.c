// Memory of the kernel's own that cannot be moved, in every corner of the machine: pages of pipes. Pipes are filled with so many MB (argv[3]), and most closed again.
#include "../check.h"

enum { SIZE = 1 << 20, KEPT = 16 }; // of a pipe; one in so many is kept

int main(int argc, char **argv) {
    begin(argc, argv);
    int n = argc > 3 ? atoi(argv[3]) : 64;
    SYS(setrlimit(RLIMIT_NOFILE, &(struct rlimit){2 * n + 64, 2 * n + 64}));
    int (*ends)[2] = calloc(n, sizeof *ends);
    uint8_t *block = malloc(SIZE);
    for (int i = 0; i < n; i++) {
        SYS(pipe(ends[i]));
        SYS(fcntl(ends[i][1], F_SETPIPE_SZ, SIZE));
        put_words(block, SIZE, i + 1);
        CHECK_EQ("bytes in a pipe", SIZE, SYS(write(ends[i][1], block, SIZE)));
    }
    for (int i = 0; i < n; i++)
        if (i % KEPT) close(ends[i][0]), close(ends[i][1]);
    ready();
    while (!finishing()) nap(20);
    for (int i = 0; i < n; i += KEPT) {
        for (int got = 0; got < SIZE;) got += SYS(read(ends[i][0], block + got, SIZE - got));
        check_words("a pipe", block, SIZE, i + 1);
    }
    return ok();
}
