// Futex waits of every kind: for ever, relative, absolute, inheriting priority, shared between processes.
#include "../check.h"
#include <linux/futex.h>
#include <semaphore.h>

enum { MS = 800 };
static volatile int started;
static uint32_t futex_word, never;
static sem_t sem;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, inheriting, *shared;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static bool flag;

static long futex(uint32_t *w, int op, uint32_t value, const struct timespec *t, uint32_t mask) {
    return syscall(SYS_futex, w, op, value, t, NULL, mask);
}

static void *wait_forever(void *unused) {
    (void)unused;
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&futex_word, __ATOMIC_SEQ_CST)) {
        long r = futex(&futex_word, FUTEX_WAIT_PRIVATE, 0, NULL, 0);
        CHECK(r == 0 || errno == EAGAIN, "futex wait for ever, expected 0, got %s", strerror(errno));
    }
    return NULL;
}

static void check_timeout(const char *what, int64_t start) {
    int64_t took = (now_ns() - start) / 1000000;
    CHECK(took >= MS && took < MS + 20000, "%s with a timeout of %d ms lasted %ld ms", what, MS, took);
}

static void *wait_relative(void *unused) {
    (void)unused;
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    do {
        int64_t start = now_ns();
        long r = futex(&never, FUTEX_WAIT_PRIVATE, 0, &(struct timespec){0, MS * 1000000}, 0);
        CHECK(r == -1 && errno == ETIMEDOUT, "relative futex wait, expected ETIMEDOUT, got %ld (%s)", r, strerror(errno));
        check_timeout("relative futex wait", start);
    } while (!finishing());
    return NULL;
}

static void *wait_absolute(void *unused) {
    (void)unused;
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    do {
        int64_t start = now_ns(), end = start + MS * 1000000LL;
        long r = futex(&never, FUTEX_WAIT_BITSET_PRIVATE, 0, &(struct timespec){end / 1000000000, end % 1000000000}, ~0u);
        CHECK(r == -1 && errno == ETIMEDOUT, "absolute futex wait, expected ETIMEDOUT, got %ld (%s)", r, strerror(errno));
        check_timeout("absolute futex wait", start);
    } while (!finishing());
    return NULL;
}

static void *wait_sem(void *unused) {
    (void)unused;
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    CHECK(sem_wait(&sem) == 0 || errno == EINTR, "sem_wait: %s", strerror(errno));
    return NULL;
}

static void *wait_cond(void *unused) {
    (void)unused;
    pthread_mutex_lock(&mutex);
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    while (!flag) {
        struct timespec end;
        clock_gettime(CLOCK_REALTIME, &end);
        end.tv_nsec += 300000000;
        if (end.tv_nsec >= 1000000000) end.tv_sec++, end.tv_nsec -= 1000000000;
        int r = pthread_cond_timedwait(&cond, &mutex, &end);
        CHECK(r == 0 || r == ETIMEDOUT, "pthread_cond_timedwait: %s", strerror(r));
    }
    pthread_mutex_unlock(&mutex);
    return NULL;
}

static void *wait_inheriting(void *unused) {
    (void)unused;
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    CHECK_EQ("lock of a priority-inheriting mutex", 0, pthread_mutex_lock(&inheriting));
    CHECK_EQ("unlock of a priority-inheriting mutex", 0, pthread_mutex_unlock(&inheriting));
    return NULL;
}

static int wait_shared(void *unused) {
    (void)unused;
    CHECK_EQ("lock of a shared mutex", 0, pthread_mutex_lock(shared));
    CHECK_EQ("unlock of a shared mutex", 0, pthread_mutex_unlock(shared));
    return 5;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    sem_init(&sem, 0, 0);
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&inheriting, &a);
    shared = map_anon(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(shared, &a);
    pthread_mutex_lock(&inheriting);
    pthread_mutex_lock(shared);
    pid_t pid = child(wait_shared, NULL);
    void *(*bodies[])(void *) = {wait_relative, wait_absolute, wait_forever, wait_sem, wait_cond, wait_inheriting};
    enum { N = sizeof bodies / sizeof *bodies };
    pthread_t t[N];
    for (int i = 0; i < N; i++) t[i] = thread(bodies[i], NULL);
    UNTIL(started == N, "all waiters");
    nap(20);
    ready();
    join(t[0]);
    join(t[1]);
    UNTIL(futex(&futex_word, FUTEX_WAKE_PRIVATE, 10, NULL, 0) == 1, "the waiter for ever"); // which waits again
    __atomic_store_n(&futex_word, 1, __ATOMIC_SEQ_CST);
    futex(&futex_word, FUTEX_WAKE_PRIVATE, 10, NULL, 0);
    sem_post(&sem);
    pthread_mutex_lock(&mutex);
    flag = true;
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&mutex);
    CHECK_EQ("unlock of a priority-inheriting mutex with a waiter", 0, pthread_mutex_unlock(&inheriting));
    CHECK_EQ("unlock of a shared mutex with a waiter", 0, pthread_mutex_unlock(shared));
    for (int i = 2; i < N; i++) join(t[i]);
    CHECK_EQ("exit code of the waiting process", 5, exited(pid, "waiting process"));
    return ok();
}
