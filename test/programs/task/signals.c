// Signal actions with their flags and masks, and the process's signal mask.
#include "../check.h"

struct kernel_action {
    void *handler;
    unsigned long flags;
    void *restorer;
    uint64_t mask;
};
static struct kernel_action before[65];
static volatile int plain_calls, value_seen, nested;

static void plain(int sig) { (void)sig, plain_calls++; }

static void with_info(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    sigset_t now;
    pthread_sigmask(0, NULL, &now);
    nested = sigismember(&now, SIGUSR2) && sigismember(&now, SIGHUP);
    value_seen = info->si_value.sival_int;
}

static void set(int sig, void *handler, int flags, int masked) {
    struct sigaction a = {.sa_flags = flags};
    a.sa_handler = handler;
    sigemptyset(&a.sa_mask);
    if (masked) sigaddset(&a.sa_mask, masked);
    SYS(sigaction(sig, &a, NULL));
}

static void get(int sig, struct kernel_action *a) {
    memset(a, 0, sizeof *a);
    SYS(syscall(SYS_rt_sigaction, sig, NULL, a, 8));
}

int main(int argc, char **argv) {
    begin(argc, argv);
    set(SIGUSR1, plain, SA_RESTART, 0);
    set(SIGUSR2, with_info, SA_SIGINFO | SA_ONSTACK, SIGHUP);
    set(SIGHUP, SIG_IGN, 0, 0);
    set(SIGCHLD, plain, SA_NOCLDSTOP | SA_NOCLDWAIT | SA_RESTART, SIGTERM);
    set(SIGALRM, plain, SA_NODEFER, SIGINT);
    set(SIGRTMIN + 3, with_info, SA_SIGINFO | SA_RESETHAND, SIGHUP);
    set(SIGRTMAX, plain, SA_RESTART, SIGRTMIN);
    set(SIGPIPE, SIG_IGN, SA_RESTART, SIGUSR2);
    set(SIGTRAP, plain, 0, 0);
    sigset_t mask, now;
    sigemptyset(&mask);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGWINCH);
    sigaddset(&mask, SIGRTMIN + 7);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    for (int s = 1; s <= 64; s++) get(s, &before[s]);
    ready();
    for (int round = 1; !finishing(); round++) {
        for (int s = 1; s <= 64; s++) {
            struct kernel_action a;
            get(s, &a);
            CHECK(memcmp(&a, &before[s], sizeof a) == 0, "action of signal %d, expected %p flags %#lx mask %#lx, got %p flags %#lx mask %#lx",
                  s, before[s].handler, before[s].flags, before[s].mask, a.handler, a.flags, a.mask);
        }
        sigemptyset(&now);
        pthread_sigmask(0, NULL, &now);
        CHECK(memcmp(&mask, &now, 8) == 0, "signal mask, expected %#lx, got %#lx", *(long *)&mask, *(long *)&now);
        raise(SIGUSR1);
        CHECK_EQ("calls of the SIGUSR1 handler", round, plain_calls);
        nested = 0;
        SYS(sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = round}));
        CHECK_EQ("si_value in the SIGUSR2 handler", round, value_seen);
        CHECK_EQ("sa_mask in the SIGUSR2 handler", 1, nested);
        nap(5);
    }
    return ok();
}
