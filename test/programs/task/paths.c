// The current directory, a changed root, and a root with a current directory outside of it.
#include "../check.h"

static volatile int *over, *started;

static void expect_here(const char *what, const char *want) {
    char here[PATH_MAX];
    long n = syscall(SYS_getcwd, here, sizeof here);
    CHECK(n > 0 && strcmp(want, here) == 0, "current directory of %s, expected %s, got %s", what, want, here);
}

static int in_root(void *unused) {
    (void)unused;
    SYS(chroot(work_path("root")));
    SYS(chdir("/inner"));
    __atomic_add_fetch(started, 1, __ATOMIC_SEQ_CST);
    while (!*over) {
        struct stat s;
        expect_here("the process in its own root", "/inner");
        SYS(stat("/marker", &s));
        CHECK_EQ("size of /marker in the own root", 7, s.st_size);
        CHECK(stat("/proc", &s) == -1, "the own root has a /proc");
        nap(5);
    }
    return 1;
}

static int elsewhere(void *unused) {
    (void)unused;
    char *dir = work_path("a directory with spaces");
    SYS(chdir(dir));
    __atomic_add_fetch(started, 1, __ATOMIC_SEQ_CST);
    while (!*over) {
        struct stat s;
        expect_here("the second process", dir);
        SYS(stat("file", &s));
        nap(5);
    }
    return 2;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    over = map_anon(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    started = over + 1;
    mkdir(work_path("root"), 0755);
    mkdir(work_path("root/inner"), 0755);
    mkdir(work_path("a directory with spaces"), 0755);
    int fd = SYS(open(work_path("root/marker"), O_CREAT | O_WRONLY, 0644));
    SYS(write(fd, "marker\n", 7));
    close(fd);
    close(SYS(open(work_path("a directory with spaces/file"), O_CREAT | O_WRONLY, 0644)));
    SYS(chdir(work_dir));
    pid_t first = child(in_root, NULL), second = child(elsewhere, NULL);
    UNTIL(*started == 2, "both processes");
    ready();
    while (!finishing()) {
        expect_here("the program", work_dir);
        nap(10);
    }
    *over = 1;
    CHECK_EQ("exit code", 1, exited(first, "process in its own root"));
    CHECK_EQ("exit code", 2, exited(second, "second process"));
    return ok();
}
