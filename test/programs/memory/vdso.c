// The vdso: all its clocks work, go forward, and agree with the system calls.
#include "../check.h"
#include <sys/auxv.h>

static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_TAI};
enum { CLOCKS = sizeof clocks / sizeof *clocks };

static int64_t ns(struct timespec t) { return t.tv_sec * 1000000000LL + t.tv_nsec; }

int main(int argc, char **argv) {
    begin(argc, argv);
    const uint8_t *vdso = (const uint8_t *)getauxval(AT_SYSINFO_EHDR);
    CHECK(vdso && memcmp(vdso, "\177ELF", 4) == 0, "no vdso at AT_SYSINFO_EHDR %p", vdso);
    int64_t last[CLOCKS] = {0};
    ready();
    while (!finishing()) {
        CHECK(memcmp(vdso, "\177ELF", 4) == 0, "no vdso at %p", vdso);
        for (int i = 0; i < CLOCKS; i++)
            for (int k = 0; k < 2000; k++) {
                struct timespec before, t, after;
                SYS(syscall(SYS_clock_gettime, clocks[i], &before));
                SYS(clock_gettime(clocks[i], &t));
                SYS(syscall(SYS_clock_gettime, clocks[i], &after));
                CHECK(ns(before) <= ns(t) && ns(t) <= ns(after), "clock %d by vdso, expected %ld to %ld, got %ld", clocks[i], ns(before), ns(after), ns(t));
                CHECK(ns(t) >= last[i], "clock %d went back from %ld to %ld", clocks[i], last[i], ns(t));
                last[i] = ns(t);
            }
        struct timeval day;
        time_t seconds = time(NULL);
        SYS(gettimeofday(&day, NULL));
        CHECK(day.tv_sec - seconds <= 1, "gettimeofday and time are %ld s apart", day.tv_sec - seconds);
        CHECK(sched_getcpu() >= 0 && sched_getcpu() < sysconf(_SC_NPROCESSORS_CONF), "getcpu gives CPU %d", sched_getcpu());
        struct timespec resolution;
        SYS(clock_getres(CLOCK_MONOTONIC, &resolution));
        CHECK_EQ("resolution of CLOCK_MONOTONIC in ns", 1, resolution.tv_nsec);
    }
    return ok();
}
