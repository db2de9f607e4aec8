// O_PATH descriptors of a file, a directory, a symbolic link.
#include "../check.h"
#ifndef O_PATH
#error no O_PATH
#endif

int main(int argc, char **argv) {
    begin(argc, argv);
    mkdir(work_path("directory"), 0755);
    close(SYS(open(work_path("directory/file"), O_CREAT | O_WRONLY, 0600)));
    if (symlink("directory/file", work_path("link")) == -1) CHECK_EQ("symlink", EEXIST, errno);
    int file = SYS(open(work_path("directory/file"), O_PATH)), directory = SYS(open(work_path("directory"), O_PATH | O_DIRECTORY | O_CLOEXEC)),
        link = SYS(open(work_path("link"), O_PATH | O_NOFOLLOW));
    ready();
    while (!finishing()) {
        char c, target[64] = {0};
        struct stat s, t;
        CHECK_EQ("flags of the O_PATH file", O_PATH, fcntl(file, F_GETFL) & ~0100000);
        CHECK(read(file, &c, 1) == -1 && errno == EBADF, "an O_PATH descriptor can be read");
        SYS(fstat(file, &s));
        SYS(fstatat(directory, "file", &t, 0));
        CHECK_EQ("inode through the O_PATH directory", s.st_ino, t.st_ino);
        CHECK_EQ("close-on-exec of the O_PATH directory", FD_CLOEXEC, fcntl(directory, F_GETFD));
        SYS(readlinkat(link, "", target, sizeof target - 1));
        CHECK(strcmp(target, "directory/file") == 0, "target of the O_PATH link, expected directory/file, got %s", target);
        nap(5);
    }
    return ok();
}
