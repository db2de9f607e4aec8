// File locks: flock, fcntl record locks, open file description locks. Either restored, or refused.
#include "../check.h"
#include <sys/file.h>

static int prober(void *unused) {
    (void)unused;
    int a = SYS(open(work_path("a"), O_RDWR)), b = SYS(open(work_path("b"), O_RDWR)), c = SYS(open(work_path("c"), O_RDWR));
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 20}, description = whole;
    CHECK(flock(a, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK, "the flock of the parent is lost");
    SYS(fcntl(b, F_GETLK, &whole));
    CHECK(whole.l_type == F_WRLCK && whole.l_start == 10 && whole.l_len == 20, "the record lock of the parent, expected a write lock of 10+20, got %d of %ld+%ld",
          whole.l_type, whole.l_start, whole.l_len);
    CHECK_EQ("owner of the record lock", getppid(), whole.l_pid);
    SYS(fcntl(c, F_OFD_GETLK, &description));
    CHECK_EQ("type of the description lock", F_RDLCK, description.l_type);
    return 0;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    int a = SYS(open(work_path("a"), O_RDWR | O_CREAT, 0600)), b = SYS(open(work_path("b"), O_RDWR | O_CREAT, 0600)),
        c = SYS(open(work_path("c"), O_RDWR | O_CREAT, 0600));
    SYS(flock(a, LOCK_EX));
    struct flock record = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 20}, description = record;
    SYS(fcntl(b, F_SETLK, &record));
    description.l_type = F_RDLCK;
    SYS(fcntl(c, F_OFD_SETLK, &description));
    ready();
    while (!finishing()) {
        CHECK_EQ("exit code of the prober", 0, exited(child(prober, NULL), "prober"));
        nap(20);
    }
    return ok();
}
