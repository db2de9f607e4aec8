// Files of /proc about a process itself and about its parent, open about half of the time, and in the middle of a word whenever they are.
#include "../check.h"

// read_lines reads a file a few bytes at a time, and looks whether every line is whole: begins with digits, and has a space behind them.
static void read_lines(const char *path) {
    char piece[40], line[1024];
    size_t length = 0;
    int fd = SYS(open(path, O_RDONLY | O_CLOEXEC)), n;
    while ((n = SYS(read(fd, piece, sizeof piece))) > 0)
        for (int i = 0; i < n; i++) {
            if (piece[i] != '\n') {
                CHECK(length < sizeof line - 1, "%s: a line has no end", path);
                line[length++] = piece[i];
                continue;
            }
            line[length] = 0;
            size_t digits = strspn(line, "0123456789abcdef-");
            CHECK(digits > 0 && line[digits] == ' ', "%s: the line is not whole: %s", path, line);
            length = 0;
        }
    CHECK_EQ("bytes behind the last line", 0, length);
    SYS(close(fd));
}

static int reader(void *path) {
    while (!finishing()) {
        int64_t began = now_ns();
        read_lines(path);
        usleep((now_ns() - began) * 3 / 1000);
    }
    return 0;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    char of_parent[64];
    snprintf(of_parent, sizeof of_parent, "/proc/%d/mountinfo", getpid());
    pid_t pid = child(reader, of_parent);
    ready();
    reader("/proc/self/maps");
    CHECK_EQ("exit code of the child", 0, exited(pid, "child"));
    return ok();
}
