// POSIX timers: ids with a gap, every kind of notification, several clocks, rest and interval, overrun.
#include "../check.h"
#include <sys/syscall.h>
#define sigev_thread_id _sigev_un._tid

enum { PERIODIC, HOLE1, DIRECTED, NONE, HOLE2, LONG, ONCE, OVERRUN, CPU, N };
static int id[N];
static volatile int periodic, directed, once, wrong, saw_overrun;
static volatile int64_t once_at;
static volatile pid_t target_tid;

static void handler(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    if (info->si_code != SI_TIMER) wrong = info->si_code;
    switch (info->si_value.sival_int) {
    case 1000: periodic++; break;
    case 1002:
        directed++;
        if (gettid() != target_tid) wrong = 9999;
        break;
    case 1006: once++, once_at = now_ns(); break;
    default: wrong = 7777;
    }
}

static int create(clockid_t clock, int notify, int sig, int value, pid_t tid) {
    struct sigevent e = {.sigev_notify = notify, .sigev_signo = sig, .sigev_value.sival_int = value};
    if (notify & SIGEV_THREAD_ID) e.sigev_thread_id = tid;
    int timer;
    SYS(syscall(SYS_timer_create, clock, &e, &timer));
    return timer;
}

static void set(int timer, int64_t first_ms, int64_t interval_ms) {
    struct itimerspec v = {{interval_ms / 1000, interval_ms % 1000 * 1000000}, {first_ms / 1000, first_ms % 1000 * 1000000}};
    SYS(syscall(SYS_timer_settime, timer, 0, &v, NULL));
}

static int64_t rest_ms(int timer, int64_t *interval_ms) {
    struct itimerspec v;
    SYS(syscall(SYS_timer_gettime, timer, &v));
    *interval_ms = v.it_interval.tv_sec * 1000 + v.it_interval.tv_nsec / 1000000;
    return v.it_value.tv_sec * 1000 + v.it_value.tv_nsec / 1000000;
}

static void *target(void *unused) {
    (void)unused;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    pthread_sigmask(SIG_BLOCK, &set, NULL); // the process-wide timer goes to main
    target_tid = gettid();
    while (!finishing()) nap(5);
    int seen = directed;
    UNTIL(directed > seen + 2, "the timer directed at a thread");
    return NULL;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
    SYS(sigaction(SIGRTMIN, &a, NULL));
    SYS(sigaction(SIGRTMIN + 1, &a, NULL));
    SYS(sigaction(SIGRTMIN + 2, &a, NULL));
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGRTMIN + 9);
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    pthread_t t = thread(target, NULL);
    UNTIL(target_tid, "the second thread");

    id[PERIODIC] = create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN, 1000, 0);
    id[HOLE1] = create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN, 1001, 0);
    id[DIRECTED] = create(CLOCK_REALTIME, SIGEV_THREAD_ID, SIGRTMIN + 1, 1002, target_tid);
    id[NONE] = create(CLOCK_REALTIME, SIGEV_NONE, 0, 0, 0);
    id[HOLE2] = create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN, 1004, 0);
    id[LONG] = create(CLOCK_BOOTTIME, SIGEV_SIGNAL, SIGRTMIN, 1005, 0);
    id[ONCE] = create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 2, 1006, 0);
    id[OVERRUN] = create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 9, 1007, 0);
    id[CPU] = create(CLOCK_PROCESS_CPUTIME_ID, SIGEV_NONE, 0, 0, 0);
    SYS(syscall(SYS_timer_delete, id[HOLE1]));
    SYS(syscall(SYS_timer_delete, id[HOLE2]));
    set(id[PERIODIC], 30, 30);
    set(id[DIRECTED], 40, 40);
    set(id[NONE], 70, 70);
    int64_t start = now_ns();
    set(id[LONG], 600000, 0);
    set(id[ONCE], 700, 0);
    set(id[OVERRUN], 2, 2);
    set(id[CPU], 1000000, 5000);
    nap(40);
    ready();
    int64_t last_rest = 600000, interval;
    while (!finishing()) {
        CHECK_EQ("odd signal", 0, wrong);
        int64_t rest = rest_ms(id[LONG], &interval), passed = (now_ns() - start) / 1000000;
        CHECK(rest <= last_rest && rest >= 600000 - passed - 50, "rest of the long timer, expected %ld to %ld ms, got %ld", 600000 - passed, last_rest, rest);
        CHECK_EQ("interval of the one-shot timer", 0, interval);
        last_rest = rest;
        rest_ms(id[NONE], &interval);
        CHECK_EQ("interval of the silent timer in ms", 70, interval);
        rest = rest_ms(id[CPU], &interval);
        CHECK(rest > 900000 && rest <= 1000000 && interval == 5000, "CPU-time timer, expected about 1000000 ms every 5000, got %ld every %ld", rest, interval);
        struct itimerspec v;
        CHECK(syscall(SYS_timer_gettime, id[HOLE1], &v) == -1 && errno == EINVAL, "a deleted timer is back");
        CHECK(once <= 1, "expirations of the one-shot timer, expected at most 1, got %d", once);
        nap(5);
    }
    int seen = periodic;
    UNTIL(periodic > seen + 2, "the periodic timer");
    UNTIL(once == 1, "the one-shot timer");
    CHECK(once_at - start >= 700000000, "the one-shot timer, expected after 700 ms, fired after %ld us", (once_at - start) / 1000);
    siginfo_t info;
    SYS(sigtimedwait(&blocked, &info, &(struct timespec){5, 0}));
    CHECK(info.si_code == SI_TIMER && info.si_value.sival_int == 1007, "overrun signal, expected value 1007, got code %d value %d", info.si_code,
          info.si_value.sival_int);
    // A restore queues the pending signal anew, and the timer then counts its overruns on a signal of its own.
    if (!info.si_overrun) SYS(sigtimedwait(&blocked, &info, &(struct timespec){5, 0}));
    CHECK(info.si_overrun > 0, "overrun of a 2 ms timer after all this time, expected some, got %d", info.si_overrun);
    join(t);
    for (int i = 0; i < N; i++)
        if (i != HOLE1 && i != HOLE2) SYS(syscall(SYS_timer_delete, id[i]));
    return ok();
}
