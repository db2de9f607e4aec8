// eventfd: counter, semaphore mode, flags, shared with a child that waits.
#include "../check.h"
#include <sys/eventfd.h>

static int waited, answer;

static int other(void *unused) {
    (void)unused;
    uint64_t v;
    SYS(read(waited, &v, 8));
    CHECK_EQ("value that the child waits for", 17, v);
    v = 18;
    SYS(write(answer, &v, 8));
    return 0;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    uint64_t v;
    int counter = SYS(eventfd(1000000, EFD_NONBLOCK)), semaphore = SYS(eventfd(5, EFD_SEMAPHORE | EFD_CLOEXEC | EFD_NONBLOCK)), empty = SYS(eventfd(0, EFD_NONBLOCK));
    v = 0xfffffffffffffffeULL - 1000000;
    SYS(write(counter, &v, 8));
    waited = SYS(eventfd(0, 0));
    answer = SYS(eventfd(0, 0));
    pid_t pid = child(other, NULL);
    ready();
    while (!finishing()) {
        v = 1;
        CHECK(write(counter, &v, 8) == -1 && errno == EAGAIN, "write to a full counter, expected EAGAIN");
        CHECK(read(empty, &v, 8) == -1 && errno == EAGAIN, "read of an empty counter, expected EAGAIN");
        CHECK_EQ("read of a semaphore", 8, read(semaphore, &v, 8));
        CHECK_EQ("value of a semaphore", 1, v);
        v = 1;
        SYS(write(semaphore, &v, 8));
        CHECK_EQ("flags", O_NONBLOCK, fcntl(counter, F_GETFL) & O_NONBLOCK);
        CHECK_EQ("close-on-exec", FD_CLOEXEC, fcntl(semaphore, F_GETFD));
        nap(5);
    }
    SYS(read(counter, &v, 8));
    CHECK_EQ("counter", 0xfffffffffffffffeULL, v);
    for (int i = 0; i < 5; i++) SYS(read(semaphore, &v, 8));
    CHECK(read(semaphore, &v, 8) == -1, "semaphore, expected 5, got more");
    v = 17;
    SYS(write(waited, &v, 8));
    SYS(read(answer, &v, 8));
    CHECK_EQ("answer of the child", 18, v);
    CHECK_EQ("exit code of the child", 0, exited(pid, "child"));
    return ok();
}
