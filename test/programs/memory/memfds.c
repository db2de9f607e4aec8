// memfds: sealed; grown by write; mapped by two processes; mapped with the descriptor closed.
#include "../check.h"

enum { SIZE = 1 << 20, SEALS = F_SEAL_SHRINK | F_SEAL_GROW };
static uint8_t *shared, *orphan;
static int sealed;

static int other(void *unused) {
    (void)unused;
    for (uint64_t last = 0; !finishing(); nap(5)) {
        uint64_t got;
        SYS(pread(sealed, &got, 8, SIZE - 8));
        CHECK(got >= last, "counter of the sealed memfd went back from %lu to %lu", last, got);
        last = got;
        verify("sealed memfd in the child", shared, 64 << 10, 1);
        verify("memfd without descriptor in the child", orphan, 64 << 10, 2);
    }
    return 0;
}

static void check_name(int fd, const char *want) {
    char link[64], got[256] = {0};
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    SYS(readlink(link, got, sizeof got - 1));
    CHECK(strcmp(want, got) == 0, "name of a memfd, expected %s, got %s", want, got);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    sealed = SYS(memfd_create("sealed one", MFD_ALLOW_SEALING | MFD_CLOEXEC));
    SYS(ftruncate(sealed, SIZE));
    SYS(fcntl(sealed, F_ADD_SEALS, SEALS));
    shared = SYS(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, sealed, 0));
    fill(shared, 64 << 10, 1);
    int fd = SYS(memfd_create("orphan", 0));
    SYS(ftruncate(fd, SIZE));
    orphan = SYS(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    uint8_t *copy = SYS(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
    fill(orphan, 64 << 10, 2);
    fill(copy + PAGE, PAGE, 77);
    close(fd);
    int grown = SYS(memfd_create("grown", 0)); // no sealing: F_SEAL_SEAL is set
    uint8_t block[10000];
    fill(block, sizeof block, 3);
    SYS(write(grown, block, sizeof block));
    int final = SYS(memfd_create("final", MFD_ALLOW_SEALING));
    SYS(write(final, block, sizeof block));
    SYS(fcntl(final, F_ADD_SEALS, SEALS | F_SEAL_WRITE | F_SEAL_SEAL));
    SYS(lseek(final, 123, SEEK_SET));
    pid_t pid = child(other, NULL);
    ready();
    long size = sizeof block;
    for (uint64_t count = 1; !finishing(); count++) {
        *(volatile uint64_t *)(shared + SIZE - 8) = count;
        check_name(sealed, "/memfd:sealed one (deleted)");
        CHECK_EQ("seals", SEALS, fcntl(sealed, F_GET_SEALS));
        CHECK_EQ("seals of an unsealable memfd", F_SEAL_SEAL, fcntl(grown, F_GET_SEALS));
        CHECK_EQ("seals of a write-sealed memfd", SEALS | F_SEAL_WRITE | F_SEAL_SEAL, fcntl(final, F_GET_SEALS));
        CHECK_EQ("offset of a memfd", 123, lseek(final, 0, SEEK_CUR));
        CHECK(write(final, "x", 1) == -1 && errno == EPERM, "a write-sealed memfd can be written");
        CHECK_EQ("close-on-exec of a memfd", FD_CLOEXEC, fcntl(sealed, F_GETFD));
        CHECK_EQ("close-on-exec of a memfd", 0, fcntl(final, F_GETFD));
        uint8_t got[sizeof block];
        SYS(pread(grown, got, sizeof got, 0));
        verify("start of the growing memfd", got, sizeof got, 3);
        SYS(pread(final, got, sizeof got, 0));
        verify("write-sealed memfd", got, sizeof got, 3);
        if (size < 200000) {
            SYS(write(grown, block, 100));
            size += 100;
        }
        CHECK_EQ("offset of the growing memfd", size, lseek(grown, 0, SEEK_CUR));
        struct stat s;
        SYS(fstat(grown, &s));
        CHECK_EQ("size of the growing memfd", size, s.st_size);
        verify("clean page of a private memfd mapping", copy, PAGE, 2);
        verify("dirty page of a private memfd mapping", copy + PAGE, PAGE, 77);
        nap(5);
    }
    CHECK(ftruncate(sealed, 1) == -1 && errno == EPERM, "a sealed memfd can shrink");
    CHECK_EQ("exit code of the child", 0, exited(pid, "child"));
    return ok();
}
