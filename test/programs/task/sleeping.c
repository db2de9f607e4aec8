// Sleeps that a checkpoint interrupts end with 0, not before their time, and not a lifetime after it.
#include "../check.h"

static volatile int started;

static void check_sleep(const char *what, int result, int64_t start, int64_t want_ns) {
    CHECK_EQ(what, 0, result);
    int64_t took = now_ns() - start;
    CHECK(took >= want_ns && took < want_ns + 20000000000LL, "%s, expected to last %ld ms, lasted %ld ms", what, want_ns / 1000000, took / 1000000);
}

static void *relative(void *unused) {
    (void)unused;
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    do {
        int64_t start = now_ns();
        int r = nanosleep(&(struct timespec){0, 900000000}, NULL);
        check_sleep("nanosleep of 900 ms", r, start, 900000000);
        struct timespec rest = {77, 77};
        start = now_ns();
        r = nanosleep(&(struct timespec){0, 400000000}, &rest);
        check_sleep("nanosleep of 400 ms", r, start, 400000000);
    } while (!finishing());
    return NULL;
}

static void *clock_relative(void *clock) {
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    do {
        int64_t start = now_ns();
        struct timespec rest;
        int r = clock_nanosleep((clockid_t)(intptr_t)clock, 0, &(struct timespec){1, 100000000}, &rest);
        check_sleep("clock_nanosleep of 1100 ms", r, start, 1100000000);
    } while (!finishing());
    return NULL;
}

static void *clock_absolute(void *arg) {
    clockid_t clock = (clockid_t)(intptr_t)arg;
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    do {
        struct timespec end, now;
        SYS(clock_gettime(clock, &end));
        end.tv_sec += 1;
        int r = clock_nanosleep(clock, TIMER_ABSTIME, &end, NULL);
        CHECK_EQ("absolute clock_nanosleep", 0, r);
        SYS(clock_gettime(clock, &now));
        CHECK(now.tv_sec > end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec >= end.tv_nsec), "absolute clock_nanosleep on clock %d returned %ld ns early",
              clock, (end.tv_sec - now.tv_sec) * 1000000000L + end.tv_nsec - now.tv_nsec);
    } while (!finishing());
    return NULL;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    pthread_t t[] = {
        thread(relative, NULL),
        thread(clock_relative, (void *)CLOCK_MONOTONIC),
        thread(clock_relative, (void *)CLOCK_BOOTTIME),
        thread(clock_relative, (void *)CLOCK_REALTIME),
        thread(clock_absolute, (void *)CLOCK_MONOTONIC),
        thread(clock_absolute, (void *)CLOCK_REALTIME),
        thread(clock_absolute, (void *)CLOCK_BOOTTIME),
    };
    UNTIL(started >= 7, "all sleepers");
    ready();
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) join(t[i]);
    return ok();
}
