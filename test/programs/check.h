// check.h: the protocol between a self-checking program and the harness in test/.
//
//   argv[1]  the log: "ready" once everything is set up, "lacks: PROBE" for what this machine cannot do,
//            then "ok", or "FAIL: what, expected, got"
//   argv[2]  a path: once it exists, the program does its last checks and ends
//
// Between "ready" and the end a program checks itself without pause. Everything it needs to know about the outside
// lies in the file system, so it works the same before a checkpoint, after it, and after a restore. Anything on
// disk may be ahead of the program's memory: the same image may have been restored and run before.
#ifndef CHECK_H
#define CHECK_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096

static int log_fd = -1;
static const char *finish_path;
static char work_dir[PATH_MAX];

// say writes one line to the log in one write, so that lines of several tasks never mix.
static inline void say(const char *format, ...) {
    char line[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    if (n > (int)sizeof line - 2) n = sizeof line - 2;
    line[n++] = '\n';
    if (write(log_fd, line, n) != n) _exit(3);
}

#define fail(format, ...)                                                                        \
    do {                                                                                         \
        say("FAIL: %s:%d: " format, __FILE_NAME__, __LINE__, ##__VA_ARGS__);                     \
        _exit(1);                                                                                \
    } while (0)

#define CHECK(condition, ...)                                                                    \
    do {                                                                                         \
        if (!(condition)) fail(__VA_ARGS__);                                                     \
    } while (0)

#define CHECK_EQ(what, expected, got)                                                            \
    do {                                                                                         \
        long long e_ = (long long)(expected), g_ = (long long)(got);                             \
        if (e_ != g_) fail("%s, expected %lld (%#llx), got %lld (%#llx)", what, e_, e_, g_, g_); \
    } while (0)

// SYS is for calls that must not fail: its value is the call's, a failure names the call.
#define SYS(call)                                                                                \
    ({                                                                                           \
        __typeof__(call) r_ = (call);                                                            \
        if ((long)r_ == -1) fail(#call ": %s", strerror(errno));                                 \
        r_;                                                                                      \
    })

static inline void begin(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: %s LOG FINISH\n", argv[0]);
        exit(2);
    }
    log_fd = open(argv[1], O_WRONLY | O_APPEND | O_CREAT, 0666);
    if (log_fd < 0 || dup2(log_fd, 1) < 0 || dup2(log_fd, 2) < 0) exit(2);
    finish_path = argv[2];
    snprintf(work_dir, sizeof work_dir, "%s", argv[1]);
    *strrchr(work_dir, '/') = 0;
}

static inline void ready(void) { say("ready"); }
static inline void lacks(const char *probe) { say("lacks: %s", probe); }

static inline int ok(void) {
    say("ok");
    return 0;
}

static inline bool finishing(void) {
    struct stat s;
    return stat(finish_path, &s) == 0;
}

// work_path names a file of this program's own directory. The string is never freed.
static inline char *work_path(const char *name) {
    char *p;
    if (asprintf(&p, "%s/%s", work_dir, name) < 0) abort();
    return p;
}

static inline int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static inline int64_t now_ms(void) { return now_ns() / 1000000; }

static inline void nap(int ms) {
    struct timespec t = {ms / 1000, (ms % 1000) * 1000000L};
    while (nanosleep(&t, &t) == -1 && errno == EINTR) {
    }
}

// until waits for something that must come true; the bound is so wide that only a lost event reaches it.
#define UNTIL(condition, what)                                                                   \
    do {                                                                                         \
        int64_t end_ = now_ms() + 15000;                                                         \
        while (!(condition)) {                                                                   \
            CHECK(now_ms() < end_, "%s, expected within 15 s, never came", what);                \
            nap(5);                                                                              \
        }                                                                                        \
    } while (0)

// noise is a reproducible content for byte i of something named by seed.
static inline uint8_t noise(uint64_t seed, uint64_t i) {
    uint64_t x = (i >> 3) + seed * 0x9e3779b97f4a7c15ULL + 1;
    x ^= x >> 33, x *= 0xff51afd7ed558ccdULL, x ^= x >> 33, x *= 0xc4ceb9fe1a85ec53ULL, x ^= x >> 33;
    return x >> (8 * (i & 7));
}

static inline void fill(void *p, size_t n, uint64_t seed) {
    for (size_t i = 0; i < n; i++) ((uint8_t *)p)[i] = noise(seed, i);
}

static inline void verify(const char *what, const void *p, size_t n, uint64_t seed) {
    for (size_t i = 0; i < n; i++)
        if (((const uint8_t *)p)[i] != noise(seed, i))
            fail("%s, byte %zu of %zu at %p, expected %#x, got %#x", what, i, n, (const uint8_t *)p + i,
                 noise(seed, i), ((const uint8_t *)p)[i]);
}

static inline void verify_zero(const char *what, const void *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (((const uint8_t *)p)[i]) fail("%s, byte %zu of %zu, expected 0, got %#x", what, i, n, ((const uint8_t *)p)[i]);
}

// word is noise for the 8-byte word i of something named by seed, quick enough for programs that write and check all the time. Seed 0 stands for zeros.
static inline uint64_t word(uint64_t seed, uint64_t i) {
    uint64_t x = seed * 0x9e3779b97f4a7c15ULL + i;
    x ^= x >> 31, x *= 0xbf58476d1ce4e5b9ULL, x ^= x >> 29;
    return seed ? x : 0;
}

// put_words and check_words are for sizes that are multiples of 8.
static inline void put_words(void *at, size_t size, uint64_t seed) {
    for (size_t i = 0; i < size / 8; i++) ((uint64_t *)at)[i] = word(seed, i);
}

static inline void check_words(const char *who, const void *at, size_t size, uint64_t seed) {
    for (size_t i = 0; i < size / 8; i++)
        if (((const uint64_t *)at)[i] != word(seed, i))
            fail("%s: word %zu of %zu at %p, expected %#llx of seed %llu, got %#llx", who, i, size / 8, at,
                 (unsigned long long)word(seed, i), (unsigned long long)seed, (unsigned long long)((const uint64_t *)at)[i]);
}

// dice draws a number below n; state is anything but 0.
static inline unsigned dice(uint64_t *state, unsigned n) {
    *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
    return *state % n;
}

// ids are a task's names for the kernel.
struct ids {
    pid_t pid, tid, ppid, pgid, sid;
};

static inline struct ids ids_now(void) {
    return (struct ids){getpid(), gettid(), getppid(), getpgid(0), getsid(0)};
}

static inline void check_ids(const char *who, const struct ids *want, bool with_parent) {
    struct ids got = ids_now();
    char what[64];
#define SAME_ID(field)                                                                           \
    snprintf(what, sizeof what, "%s of %s", #field, who);                                        \
    CHECK_EQ(what, want->field, got.field)
    SAME_ID(pid);
    SAME_ID(tid);
    SAME_ID(pgid);
    SAME_ID(sid);
    if (with_parent) {
        SAME_ID(ppid);
    }
#undef SAME_ID
}

// exited waits for a child and returns its exit code; a death by signal fails.
static inline int exited(pid_t pid, const char *who) {
    int status;
    pid_t got;
    while ((got = waitpid(pid, &status, 0)) == -1 && errno == EINTR) {
    }
    CHECK(got == pid, "wait for %s (pid %d): %s", who, pid, strerror(errno));
    CHECK(WIFEXITED(status), "%s (pid %d), expected an exit, got wait status %#x", who, pid, status);
    return WEXITSTATUS(status);
}

// child forks: in the child it runs body and exits with its value.
static inline pid_t child(int (*body)(void *), void *arg) {
    pid_t pid = fork();
    if (pid == 0) _exit(body(arg));
    if (pid < 0) fail("fork: %s", strerror(errno));
    return pid;
}

typedef struct {
    void *(*body)(void *);
    void *arg;
    bool begun;
} beginning;

static inline void *begin_thread(void *passed) {
    beginning *b = passed;
    void *(*body)(void *) = b->body, *arg = b->arg;
    __atomic_store_n(&b->begun, true, __ATOMIC_RELEASE);
    return body(arg);
}

// thread starts a thread and waits until it has begun: before that it blocks all signals, which nobody is to see after "ready".
static inline pthread_t thread(void *(*body)(void *), void *arg) {
    pthread_t t;
    beginning b = {body, arg, false};
    int e = pthread_create(&t, NULL, begin_thread, &b);
    if (e) fail("pthread_create: %s", strerror(e));
    while (!__atomic_load_n(&b.begun, __ATOMIC_ACQUIRE)) usleep(20);
    return t;
}

static inline void *join(pthread_t t) {
    void *value;
    int e = pthread_join(t, &value);
    if (e) fail("pthread_join: %s", strerror(e));
    return value;
}

static inline char task_state(pid_t pid) {
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    int n = read(fd, line, sizeof line - 1);
    close(fd);
    if (n <= 0) return 0;
    line[n] = 0;
    char *end = strrchr(line, ')');
    return end ? end[2] : 0;
}

// touch_signal returns the signal that reading a byte at p raises, or 0.
#include <setjmp.h>
static __thread sigjmp_buf touch_jump;
static inline void touch_handler(int sig) { siglongjmp(touch_jump, sig); }
static inline int touch_signal(volatile uint8_t *p, bool write) {
    struct sigaction a = {.sa_handler = touch_handler}, segv, bus;
    sigaction(SIGSEGV, &a, &segv);
    sigaction(SIGBUS, &a, &bus);
    int sig = sigsetjmp(touch_jump, 1);
    if (!sig) {
        if (write) *p = *p;
        else (void)*p;
    }
    sigaction(SIGSEGV, &segv, NULL);
    sigaction(SIGBUS, &bus, NULL);
    return sig;
}

// smaps_line copies the line that starts with key of the mapping that begins at p, e.g. "VmFlags:". Returns false
// where no mapping begins there. vm_flag tells whether the mapping has the two-letter flag.
static inline bool smaps_line(const void *p, const char *key, char *line, size_t size) {
    FILE *f = fopen("/proc/self/smaps", "re");
    char start[32];
    snprintf(start, sizeof start, "%lx-", (unsigned long)p);
    bool inside = false, found = false;
    while (fgets(line, size, f)) {
        char *dash = strchr(line, '-');
        if (dash && dash - line >= 8 && dash - line <= 16 && strspn(line, "0123456789abcdef") == (size_t)(dash - line))
            inside = strncmp(line, start, strlen(start)) == 0;
        if (inside && strncmp(line, key, strlen(key)) == 0) {
            found = true;
            break;
        }
    }
    fclose(f);
    return found;
}

static inline bool vm_flag(const void *p, const char *flag) {
    char line[512], word[8];
    if (!smaps_line(p, "VmFlags:", line, sizeof line)) fail("no mapping begins at %p", p);
    snprintf(word, sizeof word, " %s ", flag);
    return strstr(line, word) != NULL;
}

static inline void *map_anon(size_t size, int prot, int flags) {
    void *p = mmap(NULL, size, prot, MAP_ANONYMOUS | flags, -1, 0);
    if (p == MAP_FAILED) fail("mmap of %zu bytes, flags %#x: %s", size, flags, strerror(errno));
    return p;
}

#endif
