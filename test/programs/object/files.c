// Regular files: offset, flags, append, close-on-exec, descriptions shared by dup and by fork, or opened again.
#include "../check.h"

static int fd, duplicate, again, append, readonly, writeonly;

static int other(void *unused) {
    (void)unused;
    while (!finishing()) nap(5);
    // The description is the parent's: its offset too.
    UNTIL(lseek(fd, 0, SEEK_CUR) == 778, "the offset that the parent sets at last");
    SYS(lseek(fd, 888, SEEK_SET));
    return 0;
}

// append_one appends a byte. What an earlier run from the same image appended comes first: the position is the file's end all the same, unless the
// image was made between the write and the question, which does not happen twice in a row.
static void append_one(void) {
    struct stat after;
    off_t position;
    for (int try = 0; try < 2; try++) {
        SYS(write(append, "+", 1));
        SYS(fstat(append, &after));
        if ((position = lseek(append, 0, SEEK_CUR)) == after.st_size) return;
    }
    CHECK_EQ("position in the appended file", after.st_size, position);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    char *path = work_path("file");
    uint8_t content[10000], got[10000];
    fill(content, sizeof content, 1);
    fd = SYS(open(path, O_RDWR | O_CREAT | O_TRUNC, 0640));
    SYS(write(fd, content, sizeof content));
    SYS(lseek(fd, 1234, SEEK_SET));
    duplicate = SYS(fcntl(fd, F_DUPFD_CLOEXEC, 150));
    again = SYS(open(path, O_RDWR | O_NONBLOCK | O_NOATIME));
    SYS(lseek(again, 4321, SEEK_SET));
    append = SYS(open(work_path("appended"), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_SYNC, 0600));
    readonly = SYS(open(path, O_RDONLY | O_CLOEXEC));
    writeonly = SYS(open(path, O_WRONLY));
    int direct = open(path, O_RDONLY | O_DIRECT), large = SYS(open(path, O_RDONLY));
    SYS(lseek(large, 1LL << 40, SEEK_SET));
    int flags[] = {fcntl(fd, F_GETFL), fcntl(again, F_GETFL), fcntl(append, F_GETFL), fcntl(readonly, F_GETFL), fcntl(writeonly, F_GETFL), fcntl(direct, F_GETFL)};
    if (direct == -1) lacks("O_DIRECT on this file system (open gives EINVAL)");
    pid_t pid = child(other, NULL);
    ready();
    while (!finishing()) {
        CHECK_EQ("offset", 1234, lseek(fd, 0, SEEK_CUR));
        CHECK_EQ("offset of the duplicate", 1234, lseek(duplicate, 0, SEEK_CUR));
        CHECK_EQ("offset of the second description", 4321, lseek(again, 0, SEEK_CUR));
        CHECK_EQ("offset beyond the end", 1LL << 40, lseek(large, 0, SEEK_CUR));
        int now[] = {fcntl(fd, F_GETFL), fcntl(again, F_GETFL), fcntl(append, F_GETFL), fcntl(readonly, F_GETFL), fcntl(writeonly, F_GETFL), fcntl(direct, F_GETFL)};
        for (int i = 0; i < 6; i++) CHECK_EQ("file status flags", flags[i], now[i]);
        CHECK_EQ("close-on-exec", 0, fcntl(fd, F_GETFD));
        CHECK_EQ("close-on-exec of the duplicate", FD_CLOEXEC, fcntl(duplicate, F_GETFD));
        CHECK_EQ("close-on-exec of the read-only one", FD_CLOEXEC, fcntl(readonly, F_GETFD));
        CHECK(write(readonly, "x", 1) == -1 && errno == EBADF, "a read-only descriptor can be written");
        CHECK(read(writeonly, got, 1) == -1 && errno == EBADF, "a write-only descriptor can be read");
        SYS(pread(again, got, sizeof got, 0));
        CHECK(memcmp(content, got, sizeof got) == 0, "content of the file changed");
        append_one();
        nap(5);
    }
    SYS(lseek(duplicate, 777, SEEK_SET));
    CHECK_EQ("offset through the other descriptor", 777, lseek(fd, 0, SEEK_CUR));
    SYS(lseek(duplicate, 778, SEEK_SET));
    CHECK_EQ("offset of the second description", 4321, lseek(again, 0, SEEK_CUR));
    CHECK_EQ("exit code of the child", 0, exited(pid, "child"));
    CHECK_EQ("offset that the child set", 888, lseek(fd, 0, SEEK_CUR));
    return ok();
}
