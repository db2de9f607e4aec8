// What /proc and the getters of a process show: resource limits, umask, nice, I/O priority, OOM score, personality,
// timer slack, comm, exe, environment and arguments.
#include "../check.h"
#include <sys/personality.h>

static const struct {
    int resource;
    struct rlimit value;
} limits[] = {
    {RLIMIT_AS, {1ULL << 42, 1ULL << 43}}, {RLIMIT_CORE, {1000, 2000}},      {RLIMIT_CPU, {100000, 200000}}, {RLIMIT_DATA, {1ULL << 41, RLIM_INFINITY}},
    {RLIMIT_FSIZE, {1ULL << 40, 1ULL << 41}}, {RLIMIT_NOFILE, {333, 4444}},  {RLIMIT_NPROC, {5000, 6000}},   {RLIMIT_STACK, {4 << 20, 16 << 20}},
    {RLIMIT_SIGPENDING, {777, 888}},       {RLIMIT_MSGQUEUE, {10000, 20000}}, {RLIMIT_NICE, {0, 0}},          {RLIMIT_RTPRIO, {0, 0}},
    {RLIMIT_MEMLOCK, {1 << 20, 2 << 20}},  {RLIMIT_LOCKS, {50, 60}},          {RLIMIT_RTTIME, {5000000, 6000000}},
};

static void slurp(const char *path, char *buffer, size_t size) {
    int fd = SYS(open(path, O_RDONLY | O_CLOEXEC));
    long n = SYS(read(fd, buffer, size - 1));
    buffer[n] = 0;
    close(fd);
}

static const char *files[] = {"/proc/self/oom_score_adj", "/proc/self/comm", "/proc/self/limits", "/proc/self/personality",
                              "/proc/self/timerslack_ns", "/proc/self/environ", "/proc/self/cmdline", "/proc/self/coredump_filter"};
enum { FILES = sizeof files / sizeof *files };
static char before[FILES][8192], now[8192];

int main(int argc, char **argv) {
    begin(argc, argv);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) SYS(setrlimit(limits[i].resource, &limits[i].value));
    umask(027);
    SYS(setpriority(PRIO_PROCESS, 0, 5));
    SYS(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6)); // IOPRIO_WHO_PROCESS, best effort, level 6
    SYS(prctl(PR_SET_TIMERSLACK, 123456));
    SYS(prctl(PR_SET_NAME, "odd ) name"));
    SYS(personality(PER_LINUX | ADDR_NO_RANDOMIZE | UNAME26));
    int fd = SYS(open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
    SYS(write(fd, "321", 3));
    close(fd);
    fd = SYS(open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC));
    SYS(write(fd, "0x7b", 4));
    close(fd);
    char exe[PATH_MAX] = {0};
    SYS(readlink("/proc/self/exe", exe, sizeof exe - 1));
    for (int i = 0; i < FILES; i++) slurp(files[i], before[i], sizeof before[i]);
    ready();
    while (!finishing()) {
        for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
            struct rlimit got;
            SYS(getrlimit(limits[i].resource, &got));
            CHECK(got.rlim_cur == limits[i].value.rlim_cur && got.rlim_max == limits[i].value.rlim_max, "limit %d, expected %lu/%lu, got %lu/%lu",
                  limits[i].resource, limits[i].value.rlim_cur, limits[i].value.rlim_max, got.rlim_cur, got.rlim_max);
        }
        mode_t mask = umask(027);
        CHECK_EQ("umask", 027, mask);
        CHECK_EQ("nice", 5, getpriority(PRIO_PROCESS, 0));
        CHECK_EQ("I/O priority", 2 << 13 | 6, syscall(SYS_ioprio_get, 1, 0));
        CHECK_EQ("timer slack", 123456, prctl(PR_GET_TIMERSLACK));
        CHECK_EQ("personality", PER_LINUX | ADDR_NO_RANDOMIZE | UNAME26, personality(0xffffffff));
        char link[PATH_MAX] = {0};
        SYS(readlink("/proc/self/exe", link, sizeof link - 1));
        CHECK(strcmp(exe, link) == 0, "exe, expected %s, got %s", exe, link);
        for (int i = 0; i < FILES; i++) {
            slurp(files[i], now, sizeof now);
            CHECK(strcmp(before[i], now) == 0, "%s, expected %s, got %s", files[i], before[i], now);
        }
        nap(5);
    }
    return ok();
}
