// timerfd: periodic, one-shot with its rest, absolute, expired and unread, cancelled by clock set, several clocks.
#include "../check.h"
#include <sys/timerfd.h>

static int make(clockid_t clock, int flags, int64_t first_ms, int64_t interval_ms) {
    int fd = SYS(timerfd_create(clock, TFD_NONBLOCK | TFD_CLOEXEC));
    struct timespec now;
    SYS(clock_gettime(clock, &now));
    int64_t first = first_ms * 1000000 + (flags & TFD_TIMER_ABSTIME ? now.tv_sec * 1000000000LL + now.tv_nsec : 0);
    struct itimerspec v = {{interval_ms / 1000, interval_ms % 1000 * 1000000}, {first / 1000000000, first % 1000000000}};
    SYS(timerfd_settime(fd, flags, &v, NULL));
    return fd;
}

static int64_t rest_ms(int fd, int64_t *interval) {
    struct itimerspec v;
    SYS(timerfd_gettime(fd, &v));
    *interval = v.it_interval.tv_sec * 1000 + v.it_interval.tv_nsec / 1000000;
    return v.it_value.tv_sec * 1000 + v.it_value.tv_nsec / 1000000;
}

static uint64_t ticks(int fd) {
    uint64_t v;
    return read(fd, &v, 8) == 8 ? v : 0;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    int64_t start = now_ms(), interval;
    int periodic = make(CLOCK_MONOTONIC, 0, 50, 50), once = make(CLOCK_MONOTONIC, 0, 700, 0), late = make(CLOCK_BOOTTIME, 0, 600000, 0),
        absolute = make(CLOCK_MONOTONIC, TFD_TIMER_ABSTIME, 600000, 1000), day = make(CLOCK_REALTIME, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, 3600000, 0),
        unread = make(CLOCK_MONOTONIC, 0, 1, 0), disarmed = make(CLOCK_MONOTONIC, 0, 0, 0);
    nap(20);
    uint64_t total = 0, before = 0;
    ready();
    while (!finishing()) {
        int64_t rest = rest_ms(late, &interval), passed = now_ms() - start;
        CHECK(rest >= 600000 - passed - 50 && rest <= 600000, "rest of a relative timerfd, expected about %ld ms, got %ld", 600000 - passed, rest);
        int64_t until = now_ms() - start;
        rest = rest_ms(absolute, &interval);
        passed = now_ms() - start;
        CHECK(rest >= 600000 - passed - 50 && rest <= 600000 - until + 50, "rest of an absolute timerfd, expected %ld ms, got %ld", 600000 - passed, rest);
        CHECK_EQ("interval of the absolute timerfd in ms", 1000, interval);
        rest = rest_ms(day, &interval);
        CHECK(rest > 3500000 && rest <= 3600000, "rest of a timerfd on the real-time clock, expected almost 3600000 ms, got %ld", rest);
        CHECK_EQ("rest of a disarmed timerfd", 0, rest_ms(disarmed, &interval));
        CHECK_EQ("ticks of a disarmed timerfd", 0, ticks(disarmed));
        rest_ms(periodic, &interval);
        CHECK_EQ("interval of the periodic timerfd in ms", 50, interval);
        total += ticks(periodic);
        uint64_t fired = ticks(once);
        CHECK(fired <= 1 && before + fired <= 1, "ticks of a one-shot timerfd, expected 1, got %lu", before + fired);
        if (fired) {
            CHECK(now_ms() - start >= 699, "a one-shot timerfd of 700 ms fired after %ld ms", now_ms() - start);
            before = 1;
        }
        nap(7);
    }
    CHECK_EQ("ticks of an expired, unread timerfd", 1, ticks(unread));
    UNTIL(before || (before = ticks(once)), "the one-shot timerfd");
    uint64_t seen = total;
    UNTIL((total += ticks(periodic)) > seen + 2, "the periodic timerfd");
    CHECK(total <= (uint64_t)(now_ms() - start) / 50 + 1, "ticks of a periodic timerfd, expected at most %ld, got %lu", (now_ms() - start) / 50 + 1, total);
    return ok();
}
