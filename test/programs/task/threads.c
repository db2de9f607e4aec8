// Many threads, each with thread ids, a name, a signal mask, thread-local data, and a turn in a mutex-guarded ring.
// pthread_join at the end needs the kernel to clear and wake each thread's clear_child_tid.
#include "../check.h"

enum { N = 60 };
static __thread uint64_t local;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn_changed = PTHREAD_COND_INITIALIZER;
static int turn;
static bool over;
static volatile int started;

static void take_turn(int n) {
    pthread_mutex_lock(&mutex);
    while (turn != n && !over) pthread_cond_wait(&turn_changed, &mutex);
    if (!over) turn = (turn + 1) % N;
    pthread_cond_broadcast(&turn_changed);
    pthread_mutex_unlock(&mutex);
}

static void *worker(void *arg) {
    int n = (int)(intptr_t)arg;
    struct ids ids = ids_now();
    char name[16], got_name[16];
    snprintf(name, sizeof name, "worker %d", n);
    SYS(prctl(PR_SET_NAME, name));
    sigset_t mask, got_mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGRTMIN + n % 20);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    uint64_t rounds = 0;
    local = n * 1000003ULL;
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    while (!over) {
        check_ids(name, &ids, false);
        SYS(prctl(PR_GET_NAME, got_name));
        CHECK(strcmp(name, got_name) == 0, "name of thread %d, expected %s, got %s", n, name, got_name);
        sigemptyset(&got_mask);
        pthread_sigmask(0, NULL, &got_mask);
        CHECK(memcmp(&mask, &got_mask, 8) == 0, "signal mask of thread %d, expected %#lx, got %#lx", n,
              *(long *)&mask, *(long *)&got_mask);
        CHECK_EQ("thread-local counter", n * 1000003ULL + rounds, local);
        local++, rounds++;
        take_turn(n);
    }
    return (void *)(intptr_t)(n * 3 + 1);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    pthread_t threads[N];
    for (int i = 0; i < N; i++) threads[i] = thread(worker, (void *)(intptr_t)i);
    UNTIL(started == N, "all threads");
    ready();
    while (!finishing()) nap(10);
    pthread_mutex_lock(&mutex);
    over = true;
    pthread_cond_broadcast(&turn_changed);
    pthread_mutex_unlock(&mutex);
    for (int i = 0; i < N; i++) CHECK_EQ("value of a joined thread", i * 3 + 1, (intptr_t)join(threads[i]));
    return ok();
}
