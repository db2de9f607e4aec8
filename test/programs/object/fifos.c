// Named pipes: content, both ends, an end opened for reading and writing.
#include "../check.h"

int main(int argc, char **argv) {
    begin(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    if (mkfifo(work_path("fifo"), 0644) == -1) CHECK_EQ("mkfifo", EEXIST, errno);
    if (mkfifo(work_path("both"), 0600) == -1) CHECK_EQ("mkfifo", EEXIST, errno);
    if (mkfifo(work_path("lonely"), 0600) == -1) CHECK_EQ("mkfifo", EEXIST, errno);
    int reader = SYS(open(work_path("fifo"), O_RDONLY | O_NONBLOCK)), writer = SYS(open(work_path("fifo"), O_WRONLY)), both = SYS(open(work_path("both"), O_RDWR));
    int lonely = SYS(open(work_path("lonely"), O_RDONLY | O_NONBLOCK));
    uint8_t content[20000], got[20000];
    fill(content, sizeof content, 1);
    SYS(write(writer, content, sizeof content));
    SYS(write(both, "both", 4));
    ready();
    while (!finishing()) {
        CHECK_EQ("flags of the reading end", O_RDONLY | O_NONBLOCK, fcntl(reader, F_GETFL) & (O_ACCMODE | O_NONBLOCK));
        CHECK_EQ("flags of the writing end", O_WRONLY, fcntl(writer, F_GETFL) & (O_ACCMODE | O_NONBLOCK));
        CHECK_EQ("flags of the double end", O_RDWR, fcntl(both, F_GETFL) & (O_ACCMODE | O_NONBLOCK));
        CHECK_EQ("read of a FIFO without writer", 0, read(lonely, got, 10));
        struct stat a, b;
        SYS(fstat(reader, &a));
        SYS(stat(work_path("fifo"), &b));
        CHECK_EQ("inode of the FIFO", b.st_ino, a.st_ino);
        nap(5);
    }
    CHECK_EQ("read of the FIFO", sizeof content, read(reader, got, sizeof got));
    CHECK(memcmp(content, got, sizeof got) == 0, "content of the FIFO changed");
    CHECK(read(reader, got, 1) == -1 && errno == EAGAIN, "read of an empty FIFO, expected EAGAIN, got %s", strerror(errno));
    CHECK_EQ("read of the double end", 4, read(both, got, 10));
    int late = SYS(open(work_path("lonely"), O_WRONLY | O_NONBLOCK));
    SYS(write(late, "late", 4));
    CHECK_EQ("read through the restored end", 4, read(lonely, got, 10));
    return ok();
}
