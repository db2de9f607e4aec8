// Waits for descriptors: with a timeout they last at least that long and return 0; without one they return when
// something comes. epoll_wait may end with EINTR: signal(7) names it among the calls that a stop interrupts.
#include "../check.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

enum { MS = 800 };
static int quiet[2], last[2];
static volatile int started;

static void check_timeout(const char *what, int result, int64_t start) {
    int error = errno;
    CHECK(result == 0, "%s with nothing to come, expected 0, got %d (%s)", what, result, result < 0 ? strerror(error) : "");
    int64_t took = (now_ns() - start) / 1000000;
    CHECK(took >= MS && took < MS + 20000, "%s with a timeout of %d ms lasted %ld ms", what, MS, took);
}

static void *with_poll(void *unused) {
    (void)unused;
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    do {
        struct pollfd p = {quiet[0], POLLIN, 0};
        int64_t start = now_ns();
        check_timeout("poll", poll(&p, 1, MS), start);
        start = now_ns();
        check_timeout("poll of nothing", poll(NULL, 0, MS), start);
    } while (!finishing());
    return NULL;
}

static void *with_ppoll(void *unused) {
    (void)unused;
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    do {
        struct pollfd p = {quiet[0], POLLIN, 0};
        sigset_t none;
        sigemptyset(&none);
        int64_t start = now_ns();
        check_timeout("ppoll", ppoll(&p, 1, &(struct timespec){0, MS * 1000000}, &none), start);
    } while (!finishing());
    return NULL;
}

static void *with_select(void *unused) {
    (void)unused;
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    do {
        fd_set set;
        FD_ZERO(&set);
        FD_SET(quiet[0], &set);
        int64_t start = now_ns();
        check_timeout("select", select(quiet[0] + 1, &set, NULL, NULL, &(struct timeval){0, MS * 1000}), start);
        FD_SET(quiet[0], &set);
        start = now_ns();
        check_timeout("pselect", pselect(quiet[0] + 1, &set, NULL, NULL, &(struct timespec){0, MS * 1000000}, NULL), start);
    } while (!finishing());
    return NULL;
}

static void *with_epoll(void *unused) {
    (void)unused;
    int e = SYS(epoll_create1(0));
    SYS(epoll_ctl(e, EPOLL_CTL_ADD, quiet[0], &(struct epoll_event){.events = EPOLLIN}));
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    do {
        struct epoll_event event;
        int64_t start = now_ns();
        int r = epoll_wait(e, &event, 1, MS);
        if (r == -1 && errno == EINTR) continue;
        check_timeout("epoll_wait", r, start);
    } while (!finishing());
    return NULL;
}

static void *poll_forever(void *unused) {
    (void)unused;
    struct pollfd p = {last[0], POLLIN, 0};
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    int r = poll(&p, 1, -1);
    CHECK(r == 1 && p.revents == POLLIN, "poll without timeout, expected 1 with POLLIN, got %d with %#x", r, p.revents);
    return NULL;
}

static void *select_forever(void *unused) {
    (void)unused;
    fd_set set;
    FD_ZERO(&set);
    FD_SET(last[0], &set);
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    CHECK_EQ("select without timeout", 1, select(last[0] + 1, &set, NULL, NULL, NULL));
    return NULL;
}

static void *epoll_forever(void *unused) {
    (void)unused;
    int e = SYS(epoll_create1(0)), r;
    SYS(epoll_ctl(e, EPOLL_CTL_ADD, last[0], &(struct epoll_event){.events = EPOLLIN, .data.u64 = 99}));
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    struct epoll_event event;
    while ((r = epoll_wait(e, &event, 1, -1)) == -1 && errno == EINTR) {
    }
    CHECK(r == 1 && event.data.u64 == 99, "epoll_wait without timeout, expected one event for 99, got %d for %ld", r, (long)event.data.u64);
    return NULL;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    SYS(pipe(quiet));
    SYS(pipe(last));
    void *(*bodies[])(void *) = {with_poll, with_ppoll, with_select, with_epoll, poll_forever, select_forever, epoll_forever};
    enum { N = sizeof bodies / sizeof *bodies };
    pthread_t t[N];
    for (int i = 0; i < N; i++) t[i] = thread(bodies[i], NULL);
    UNTIL(started == N, "all waiters");
    nap(20);
    ready();
    for (int i = 0; i < 4; i++) join(t[i]);
    SYS(write(last[1], "x", 1));
    for (int i = 4; i < N; i++) join(t[i]);
    return ok();
}
