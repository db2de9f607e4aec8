// Robust mutexes: the kernel walks a dead thread's robust list, so the list's address must be known to it.
#include "../check.h"

static pthread_mutex_t *mutexes; // shared: [0] held by a process, [1] by a thread, [2] by a process that is killed
static int *held; // shared: each owner's, and at OVER that they shall end: not before nobody tries their mutexes any more
enum { OVER = 3 };

static void robust(pthread_mutex_t *m) {
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(m, &a);
}

static void hold(int n) {
    CHECK_EQ("lock of a robust mutex", 0, pthread_mutex_lock(&mutexes[n]));
    void *head;
    size_t length;
    SYS(syscall(SYS_get_robust_list, 0, &head, &length));
    __atomic_store_n(&held[n], 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&held[OVER], __ATOMIC_SEQ_CST)) {
        void *now;
        SYS(syscall(SYS_get_robust_list, 0, &now, &length));
        CHECK(head == now && length == 24, "robust list, expected %p of 24 bytes, got %p of %zu", head, now, length);
        nap(5);
    }
}

static int holding_process(void *n) {
    hold((int)(intptr_t)n);
    if (n)
        for (;;) pause();
    return 0;
}

static void *holding_thread(void *n) {
    hold((int)(intptr_t)n);
    return NULL;
}

static void owner_died(int n) {
    CHECK_EQ("lock after the owner's death", EOWNERDEAD, pthread_mutex_lock(&mutexes[n]));
    CHECK_EQ("recovery", 0, pthread_mutex_consistent(&mutexes[n]));
    CHECK_EQ("unlock", 0, pthread_mutex_unlock(&mutexes[n]));
}

int main(int argc, char **argv) {
    begin(argc, argv);
    mutexes = map_anon(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    held = (int *)(mutexes + 8);
    for (int i = 0; i < 3; i++) robust(&mutexes[i]);
    pid_t leaver = child(holding_process, (void *)0), killed = child(holding_process, (void *)2);
    pthread_t t = thread(holding_thread, (void *)1);
    UNTIL(held[0] && held[1] && held[2], "all owners");
    ready();
    while (!finishing()) {
        for (int i = 0; i < 3; i++) CHECK_EQ("trylock of a held mutex", EBUSY, pthread_mutex_trylock(&mutexes[i]));
        nap(10);
    }
    __atomic_store_n(&held[OVER], 1, __ATOMIC_SEQ_CST);
    SYS(kill(killed, SIGKILL));
    SYS(waitpid(killed, NULL, 0));
    CHECK_EQ("exit code of the leaver", 0, exited(leaver, "leaver"));
    join(t);
    for (int i = 0; i < 3; i++) owner_died(i);
    return ok();
}
