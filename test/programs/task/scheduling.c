// Scheduling per thread: policy, priority, nice, reset-on-fork, affinity.
#include "../check.h"

struct policy {
    int policy, priority, nice, cpu;
};
static volatile int started;

static void *worker(void *arg) {
    struct policy *p = arg;
    cpu_set_t cpus, got;
    CPU_ZERO(&cpus);
    CPU_SET(p->cpu, &cpus);
    SYS(sched_setaffinity(0, sizeof cpus, &cpus));
    SYS(setpriority(PRIO_PROCESS, gettid(), p->nice));
    if (sched_setscheduler(0, p->policy, &(struct sched_param){p->priority}) == -1) {
        CHECK(errno == EPERM && p->priority, "sched_setscheduler %d: %s", p->policy, strerror(errno));
        lacks("realtime scheduling (sched_setscheduler gives EPERM)");
        __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
        return NULL;
    }
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    while (!finishing()) {
        struct sched_param param;
        CHECK_EQ("scheduling policy", p->policy, sched_getscheduler(0));
        SYS(sched_getparam(0, &param));
        CHECK_EQ("realtime priority", p->priority, param.sched_priority);
        CHECK_EQ("nice", p->nice, getpriority(PRIO_PROCESS, gettid()));
        SYS(sched_getaffinity(0, sizeof got, &got));
        CHECK(CPU_EQUAL(&cpus, &got), "affinity of the thread on CPU %d changed", p->cpu);
        nap(5);
    }
    return NULL;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    int last = sysconf(_SC_NPROCESSORS_ONLN) - 1;
    struct policy p[] = {
        {SCHED_OTHER, 0, 0, 0},  {SCHED_OTHER, 0, 7, last},  {SCHED_OTHER, 0, -7, last}, {SCHED_BATCH, 0, 3, 0},
        {SCHED_IDLE, 0, 0, 0},   {SCHED_FIFO, 5, 0, last},   {SCHED_RR, 9, 0, 0},        {SCHED_OTHER | SCHED_RESET_ON_FORK, 0, 2, 0},
        {SCHED_FIFO | SCHED_RESET_ON_FORK, 3, 0, 0},
    };
    enum { N = sizeof p / sizeof *p };
    pthread_t t[N];
    for (int i = 0; i < N; i++) t[i] = thread(worker, &p[i]);
    UNTIL(started == N, "all threads");
    ready();
    for (int i = 0; i < N; i++) join(t[i]);
    return ok();
}
