// The usual character devices.
#include "../check.h"

int main(int argc, char **argv) {
    begin(argc, argv);
    int null = SYS(open("/dev/null", O_RDWR | O_APPEND)), zero = SYS(open("/dev/zero", O_RDWR)), full = SYS(open("/dev/full", O_RDWR)),
        random = SYS(open("/dev/random", O_RDONLY | O_NONBLOCK)), urandom = SYS(open("/dev/urandom", O_RDONLY | O_CLOEXEC));
    uint8_t *mapped = SYS(mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0));
    fill(mapped, PAGE, 1);
    ready();
    while (!finishing()) {
        uint8_t got[64], last[64] = {0};
        CHECK_EQ("read of /dev/null", 0, read(null, got, sizeof got));
        CHECK_EQ("write to /dev/null", 64, write(null, got, sizeof got));
        CHECK_EQ("flags of /dev/null", O_RDWR | O_APPEND, fcntl(null, F_GETFL) & (O_ACCMODE | O_APPEND));
        memset(got, 1, sizeof got);
        CHECK_EQ("read of /dev/zero", 64, read(zero, got, sizeof got));
        verify_zero("/dev/zero", got, sizeof got);
        CHECK(write(full, got, 1) == -1 && errno == ENOSPC, "write to /dev/full, expected ENOSPC, got %s", strerror(errno));
        CHECK_EQ("read of /dev/urandom", 64, read(urandom, got, sizeof got));
        CHECK(memcmp(got, last, 64), "/dev/urandom gives zeros");
        CHECK_EQ("read of /dev/random", 64, read(random, got, sizeof got));
        CHECK_EQ("O_NONBLOCK of /dev/random", O_NONBLOCK, fcntl(random, F_GETFL) & O_NONBLOCK);
        CHECK_EQ("close-on-exec of /dev/urandom", FD_CLOEXEC, fcntl(urandom, F_GETFD));
        verify("private mapping of /dev/zero", mapped, PAGE, 1);
        verify_zero("private mapping of /dev/zero", mapped + PAGE, PAGE);
        nap(5);
    }
    return ok();
}
