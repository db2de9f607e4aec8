// Pending signals, shared and of one thread, with their siginfo and the order of queued realtime signals.
#include "../check.h"
#include <sys/syscall.h>

static sigset_t all;
static pthread_t other;
static volatile pid_t other_tid;
static volatile int over;
static pid_t sender;

static void block(void) {
    sigfillset(&all);
    for (int s = SIGILL; s <= SIGSEGV; s++)
        if (s == SIGILL || s == SIGTRAP || s == SIGBUS || s == SIGFPE || s == SIGSEGV) sigdelset(&all, s);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
}

static void take(const char *what, int sig, int code, pid_t from, int value) {
    siginfo_t info = {0};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, sig);
    // glibc's sigtimedwait turns SI_TKILL into SI_USER.
    CHECK(syscall(SYS_rt_sigtimedwait, &set, &info, &(struct timespec){0}, 8) == sig, "%s: signal %d is not pending: %s", what, sig, strerror(errno));
    CHECK(info.si_code == code && info.si_pid == from && info.si_uid == getuid() && (code != SI_QUEUE || info.si_value.sival_int == value),
          "%s: signal %d, expected code %d pid %d uid %d value %d, got code %d pid %d uid %d value %d", what, sig, code, from, getuid(),
          value, info.si_code, info.si_pid, info.si_uid, info.si_value.sival_int);
}

static uint64_t pending(void) {
    sigset_t set;
    sigemptyset(&set);
    sigpending(&set);
    return *(uint64_t *)&set;
}

static void *receiver(void *unused) {
    (void)unused;
    block();
    other_tid = gettid();
    while (!over) nap(5);
    take("thread", SIGUSR2, SI_TKILL, getpid(), 0);
    for (int i = 0; i < 4; i++) take("thread", SIGRTMIN + 5, SI_QUEUE, getpid(), 500 + i);
    return NULL;
}

static int send(void *unused) {
    (void)unused;
    SYS(kill(getppid(), SIGUSR1));
    SYS(sigqueue(getppid(), SIGRTMIN + 2, (union sigval){.sival_int = 222}));
    return 0;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    block();
    other = thread(receiver, NULL);
    UNTIL(other_tid, "the second thread");
    sender = child(send, NULL);
    exited(sender, "sender"); // leaves SIGCHLD pending too
    for (int i = 0; i < 5; i++) SYS(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 100 + i}));
    SYS(syscall(SYS_tgkill, getpid(), other_tid, SIGUSR2));
    for (int i = 0; i < 4; i++) pthread_sigqueue(other, SIGRTMIN + 5, (union sigval){.sival_int = 500 + i});
    SYS(syscall(SYS_tgkill, getpid(), gettid(), SIGTERM));
    uint64_t want = pending();
    ready();
    while (!finishing()) {
        CHECK(pending() == want, "pending signals, expected %#lx, got %#lx", want, pending());
        nap(5);
    }
    take("main", SIGTERM, SI_TKILL, getpid(), 0);
    take("main", SIGUSR1, SI_USER, sender, 0);
    take("main", SIGRTMIN + 2, SI_QUEUE, sender, 222);
    for (int i = 0; i < 5; i++) take("main", SIGRTMIN + 1, SI_QUEUE, getpid(), 100 + i);
    siginfo_t info;
    sigset_t chld;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    CHECK(sigtimedwait(&chld, &info, &(struct timespec){0}) == SIGCHLD, "SIGCHLD is not pending");
    CHECK(info.si_pid == sender && info.si_code == CLD_EXITED && info.si_status == 0, "SIGCHLD, expected pid %d CLD_EXITED 0, got pid %d code %d status %d",
          sender, info.si_pid, info.si_code, info.si_status);
    CHECK(pending() == 0, "pending signals at the end, expected none, got %#lx", pending());
    over = 1;
    join(other);
    return ok();
}
