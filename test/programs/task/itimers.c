// The three interval timers keep their interval and go on firing.
#include "../check.h"

static volatile long fired[3];
static const int signals[3] = {SIGALRM, SIGVTALRM, SIGPROF};
static const long period_us[3] = {60000, 20000, 30000};

static void handler(int sig) {
    for (int i = 0; i < 3; i++)
        if (signals[i] == sig) fired[i]++;
}

static void work(int ms) {
    for (int64_t end = now_ms() + ms; now_ms() < end;) {
    }
}

int main(int argc, char **argv) {
    begin(argc, argv);
    int64_t start = now_ms();
    for (int i = 0; i < 3; i++) {
        struct sigaction a = {.sa_handler = handler, .sa_flags = SA_RESTART};
        SYS(sigaction(signals[i], &a, NULL));
        struct itimerval v = {{0, period_us[i]}, {0, period_us[i]}};
        SYS(setitimer(i, &v, NULL));
    }
    ready();
    while (!finishing()) {
        for (int i = 0; i < 3; i++) {
            struct itimerval v;
            SYS(getitimer(i, &v));
            CHECK_EQ("interval of an interval timer in us", period_us[i], v.it_interval.tv_sec * 1000000 + v.it_interval.tv_usec);
            CHECK(v.it_value.tv_sec == 0 && v.it_value.tv_usec <= period_us[i] + 10000, "rest of timer %d, expected at most %ld us, got %ld", i, period_us[i],
                  v.it_value.tv_usec);
        }
        work(5);
        nap(1);
    }
    long before[3] = {fired[0], fired[1], fired[2]};
    for (int i = 0; i < 3; i++)
        for (int64_t end = now_ms() + 10000; fired[i] < before[i] + 3;) {
            CHECK(now_ms() < end, "interval timer %d no longer fires", i);
            work(1);
        }
    // Signals coalesce, so a timer never fires more often than time has passed; one more may have been pending.
    long most = (now_ms() - start) * 1000 / period_us[0] + 2;
    CHECK(fired[0] <= most, "expirations of ITIMER_REAL, expected at most %ld, got %ld", most, fired[0]);
    return ok();
}
