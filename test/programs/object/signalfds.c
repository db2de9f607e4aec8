// signalfd: its mask, and the pending signals that are read through it.
#include "../check.h"
#include <sys/signalfd.h>

static void expect(int fd, int sig, int code, int value) {
    struct signalfd_siginfo info;
    CHECK_EQ("read of a signalfd", sizeof info, read(fd, &info, sizeof info));
    CHECK_EQ("signal read", sig, info.ssi_signo);
    CHECK_EQ("si_code read", code, info.ssi_code);
    CHECK_EQ("si_pid read", getpid(), info.ssi_pid);
    CHECK_EQ("si_value read", value, info.ssi_int);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    sigset_t set, one;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN + 4);
    sigemptyset(&one);
    sigaddset(&one, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pthread_sigmask(SIG_BLOCK, &one, NULL);
    int fd = SYS(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC)), other = SYS(signalfd(-1, &one, SFD_NONBLOCK));
    SYS(kill(getpid(), SIGUSR1));
    for (int i = 0; i < 3; i++) SYS(sigqueue(getpid(), SIGRTMIN + 4, (union sigval){.sival_int = 40 + i}));
    ready();
    while (!finishing()) {
        struct signalfd_siginfo info;
        CHECK(read(other, &info, sizeof info) == -1 && errno == EAGAIN, "read of a signalfd without signal, expected EAGAIN");
        SYS(sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = 5}));
        expect(other, SIGUSR2, SI_QUEUE, 5);
        CHECK_EQ("close-on-exec", FD_CLOEXEC, fcntl(fd, F_GETFD));
        nap(5);
    }
    expect(fd, SIGUSR1, SI_USER, 0);
    for (int i = 0; i < 3; i++) expect(fd, SIGRTMIN + 4, SI_QUEUE, 40 + i);
    return ok();
}
