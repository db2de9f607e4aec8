// Eighteen threads that check themselves: registers, flags, masks, futexes, polls, sleeps, timers, sockets. Each one
// counts its rounds in a file that the harness reads, so that a thread that hangs is found too.
#define SPIN 300000
#include "registers.h"
#include "../net/net.h"
#include <linux/futex.h>
#include <sys/signalfd.h>

enum { THREADS = 18 };
static volatile uint64_t *rounds; // a shared mapping of the file "progress", one per thread
static volatile int started;

static void lap(uintptr_t me) {
    if (!rounds[me]) __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    rounds[me]++;
    nap(3); // leaves processors to whoever takes a checkpoint
}

static uint32_t ball;

static void *futex_player(void *arg) {
    uintptr_t me = (uintptr_t)arg;
    uint32_t mine = me & 1;
    while (!finishing()) {
        while (__atomic_load_n(&ball, __ATOMIC_SEQ_CST) != mine && !finishing()) {
            long r = syscall(SYS_futex, &ball, FUTEX_WAIT_PRIVATE, !mine, &(struct timespec){0, 200000000}, NULL, 0);
            CHECK(r == 0 || errno == EAGAIN || errno == ETIMEDOUT, "futex wait: %s", strerror(errno));
        }
        __atomic_store_n(&ball, !mine, __ATOMIC_SEQ_CST);
        SYS(syscall(SYS_futex, &ball, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
        lap(me);
    }
    return NULL;
}

static void *masked(void *arg) {
    uintptr_t me = (uintptr_t)arg;
    sigset_t mask, now;
    sigemptyset(&mask);
    sigaddset(&mask, SIGRTMIN + me);
    sigaddset(&mask, SIGWINCH);
    if (me & 1) sigaddset(&mask, SIGURG);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    while (!finishing()) {
        sigemptyset(&now);
        pthread_sigmask(0, NULL, &now);
        CHECK(memcmp(&mask, &now, 8) == 0, "signal mask, expected %#lx, got %#lx", *(long *)&mask, *(long *)&now);
        nap(1);
        lap(me);
    }
    return NULL;
}

static void *sleeper(void *arg) {
    while (!finishing()) {
        int64_t start = now_ns();
        CHECK_EQ("nanosleep", 0, nanosleep(&(struct timespec){0, 7000000}, NULL));
        CHECK(now_ns() - start >= 7000000, "nanosleep of 7 ms lasted %ld us", (now_ns() - start) / 1000);
        lap((uintptr_t)arg);
    }
    return NULL;
}

static void *absolute_sleeper(void *arg) {
    while (!finishing()) {
        int64_t end = now_ns() + 9000000;
        CHECK_EQ("clock_nanosleep", 0, clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &(struct timespec){end / 1000000000, end % 1000000000}, NULL));
        CHECK(now_ns() >= end, "clock_nanosleep returned %ld us early", (end - now_ns()) / 1000);
        lap((uintptr_t)arg);
    }
    return NULL;
}

static void *poller(void *arg) {
    int quiet[2];
    SYS(pipe(quiet));
    while (!finishing()) {
        struct pollfd p = {quiet[0], POLLIN, 0};
        int64_t start = now_ms();
        CHECK_EQ("poll of a quiet pipe", 0, poll(&p, 1, 8));
        CHECK(now_ms() - start >= 7, "poll of 8 ms lasted %ld ms", now_ms() - start);
        lap((uintptr_t)arg);
    }
    return NULL;
}

static void *timed(void *arg) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    struct sigevent e = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 5};
    e._sigev_un._tid = gettid();
    timer_t timer;
    SYS(timer_create(CLOCK_MONOTONIC, &e, &timer));
    SYS(timer_settime(timer, 0, &(struct itimerspec){{0, 40000000}, {0, 40000000}}, NULL));
    // A signalfd rather than sigwaitinfo, which changes the mask that /proc shows all the time.
    int fd = SYS(signalfd(-1, &set, 0));
    while (!finishing()) {
        struct signalfd_siginfo info;
        CHECK_EQ("read of a signalfd", sizeof info, read(fd, &info, sizeof info));
        CHECK(info.ssi_signo == (uint32_t)SIGRTMIN && info.ssi_int == 5, "signal of the timer, expected value 5, got %d", info.ssi_int);
        lap((uintptr_t)arg);
    }
    return NULL;
}

static int tcp[2], local[2];

static void *echo(void *arg) {
    uintptr_t me = (uintptr_t)arg;
    int fd = me & 1 ? tcp[1] : local[1];
    char block[512];
    for (long n; (n = recv(fd, block, sizeof block, 0)) != 0; lap(me)) {
        CHECK(n > 0, "recv of the echo: %s", strerror(errno));
        send_all(fd, block, n);
    }
    return NULL;
}

static void *talker(void *arg) {
    uintptr_t me = (uintptr_t)arg;
    int fd = me & 1 ? tcp[0] : local[0];
    uint8_t block[2000], got[sizeof block];
    for (uint64_t n = 0; !finishing(); n++) {
        fill(block, sizeof block, n);
        send_all(fd, block, sizeof block);
        receive_all("echo", fd, got, sizeof got);
        CHECK(memcmp(block, got, sizeof got) == 0, "echo %lu differs", n);
        lap(me);
    }
    SYS(shutdown(fd, SHUT_WR));
    return NULL;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    int file = SYS(open(work_path("progress"), O_RDWR | O_CREAT, 0644));
    SYS(ftruncate(file, THREADS * 8));
    rounds = SYS(mmap(NULL, THREADS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
    tcp_pair(AF_INET, tcp);
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, local));
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGRTMIN);
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    void *(*bodies[THREADS])(void *) = {gpr, gpr, sse, __builtin_cpu_supports("avx2") ? avx2 : gpr, wide ? avx512 : gpr, x87, futex_player, futex_player, masked, masked,
                                        sleeper, absolute_sleeper, poller, timed, echo, echo, talker, talker};
    if (!wide) lacks("AVX-512 (cpuid)");
    pthread_t t[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) t[i] = thread(bodies[i], (void *)i);
    UNTIL(started == THREADS, "all threads");
    ready();
    for (int i = 0; i < THREADS; i++) join(t[i]);
    return ok();
}
