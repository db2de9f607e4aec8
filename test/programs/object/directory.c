// A directory read half-way: getdents goes on where it was, every entry once.
#include "../check.h"
#include <dirent.h>

enum { N = 300 };
static bool seen[N];
static int total;

static bool batch(int fd) {
    char buffer[1024];
    long n = SYS(syscall(SYS_getdents64, fd, buffer, sizeof buffer));
    for (long at = 0; at < n;) {
        struct dirent64 *d = (struct dirent64 *)(buffer + at);
        int i;
        if (sscanf(d->d_name, "entry %d", &i) == 1) {
            CHECK(i >= 0 && i < N && !seen[i], "entry %d of the directory comes twice", i);
            seen[i] = true;
            total++;
        }
        at += d->d_reclen;
    }
    return n > 0;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    mkdir(work_path("directory"), 0755);
    for (int i = 0; i < N; i++) {
        char name[64];
        snprintf(name, sizeof name, "directory/entry %d", i);
        close(SYS(open(work_path(name), O_CREAT | O_WRONLY, 0600)));
    }
    int fd = SYS(open(work_path("directory"), O_RDONLY | O_DIRECTORY));
    batch(fd);
    batch(fd);
    CHECK(total > 0 && total < N, "read half-way, expected some entries, got %d of %d", total, N);
    off_t position = lseek(fd, 0, SEEK_CUR);
    ready();
    while (!finishing()) {
        CHECK_EQ("position in the directory", position, lseek(fd, 0, SEEK_CUR));
        nap(10);
    }
    while (batch(fd)) {
    }
    CHECK_EQ("entries", N, total);
    return ok();
}
