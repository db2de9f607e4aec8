// Owners of descriptors: F_SETOWN, F_SETOWN_EX, F_SETSIG and O_ASYNC deliver the chosen signal to the chosen task.
#include "../check.h"
#include <sys/socket.h>

static volatile int got_fd, got_tid, count;

static void handler(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    got_fd = info->si_fd;
    got_tid = gettid();
    count++;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
    SYS(sigaction(SIGRTMIN + 1, &a, NULL));
    int p[2], s[2];
    SYS(pipe(p));
    SYS(fcntl(p[0], F_SETOWN, getpid()));
    SYS(fcntl(p[0], F_SETSIG, SIGRTMIN + 1));
    SYS(fcntl(p[0], F_SETFL, O_ASYNC | O_NONBLOCK));
    SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
    struct f_owner_ex owner = {F_OWNER_TID, gettid()}, got;
    SYS(fcntl(s[0], F_SETOWN_EX, &owner));
    ready();
    for (int i = 1; !finishing(); i++) {
        char c;
        CHECK_EQ("owner of the pipe", getpid(), fcntl(p[0], F_GETOWN));
        CHECK_EQ("signal of the pipe", SIGRTMIN + 1, fcntl(p[0], F_GETSIG));
        CHECK_EQ("flags of the pipe", O_ASYNC | O_NONBLOCK, fcntl(p[0], F_GETFL) & (O_ASYNC | O_NONBLOCK));
        SYS(fcntl(s[0], F_GETOWN_EX, &got));
        CHECK(got.type == F_OWNER_TID && got.pid == gettid(), "owner of the socket, expected thread %d, got type %d pid %d", gettid(), got.type, got.pid);
        SYS(write(p[1], "x", 1));
        UNTIL(count == i, "the signal of the pipe");
        CHECK_EQ("descriptor in the signal", p[0], got_fd);
        SYS(read(p[0], &c, 1));
        nap(5);
    }
    return ok();
}
