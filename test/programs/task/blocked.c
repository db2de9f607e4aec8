// Threads blocked in system calls that end only when something happens: read, write, accept, recv, sigsuspend,
// sigtimedwait, wait4, pause. Each must give the right result for what happens after the restore.
#include "../check.h"
#include <netinet/in.h>
#include <sys/socket.h>

enum { MS = 800 };
static int empty[2], full[2], sockets[2], listener, datagrams[2];
static volatile int started, handled;
static pid_t waited;
static pthread_t suspended, paused;

static void handler(int sig) { (void)sig, handled++; }

static void *in_read(void *unused) {
    (void)unused;
    char c = 0;
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    CHECK_EQ("read of an empty pipe", 1, read(empty[0], &c, 1));
    CHECK_EQ("byte read", 'r', c);
    return NULL;
}

static void *in_write(void *unused) {
    (void)unused;
    static char block[100000];
    memset(block, 'w', sizeof block);
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    CHECK_EQ("write to a full pipe", sizeof block, write(full[1], block, sizeof block));
    return NULL;
}

static void *in_accept(void *unused) {
    (void)unused;
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    int s = SYS(accept(listener, NULL, NULL));
    char c = 0;
    CHECK_EQ("read of the accepted connection", 1, read(s, &c, 1));
    CHECK_EQ("byte of the accepted connection", 'a', c);
    close(s);
    return NULL;
}

static void *in_recv(void *unused) {
    (void)unused;
    char c = 0;
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    CHECK_EQ("recv of an empty socket", 1, recv(sockets[0], &c, 1, 0));
    CHECK_EQ("byte received", 's', c);
    return NULL;
}

// With SO_RCVTIMEO a stop may end the call with EINTR, see signal(7).
static void *in_recv_timeout(void *unused) {
    (void)unused;
    SYS(setsockopt(datagrams[0], SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){0, MS * 1000}, sizeof(struct timeval)));
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    do {
        char c;
        int64_t start = now_ns();
        long r = recv(datagrams[0], &c, 1, 0);
        if (r == -1 && errno == EINTR) continue;
        CHECK(r == -1 && errno == EAGAIN, "recv with SO_RCVTIMEO, expected EAGAIN, got %ld (%s)", r, strerror(errno));
        int64_t took = (now_ns() - start) / 1000000;
        // The kernel counts this timeout in jiffies, of up to 10 ms.
        CHECK(took >= MS - 10 && took < MS + 20000, "recv with a timeout of %d ms lasted %ld ms", MS, took);
    } while (!finishing());
    return NULL;
}

static void *in_sigsuspend(void *unused) {
    (void)unused;
    sigset_t set, now;
    sigfillset(&set);
    sigdelset(&set, SIGUSR1);
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    CHECK(sigsuspend(&set) == -1 && errno == EINTR, "sigsuspend, expected EINTR, got %s", strerror(errno));
    CHECK_EQ("handlers that ran", 1, handled);
    sigemptyset(&now);
    pthread_sigmask(0, NULL, &now);
    CHECK(sigismember(&now, SIGUSR1) && sigismember(&now, SIGUSR2) && !sigismember(&now, SIGTERM), "signal mask after sigsuspend is not the one before");
    return NULL;
}

static void *in_pause(void *unused) {
    (void)unused;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGURG);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    CHECK(pause() == -1 && errno == EINTR, "pause, expected EINTR, got %s", strerror(errno));
    CHECK_EQ("handlers that ran", 2, handled);
    return NULL;
}

static void *in_sigtimedwait(void *unused) {
    (void)unused;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    siginfo_t info;
    int r;
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    while ((r = sigtimedwait(&set, &info, &(struct timespec){1000, 0})) == -1 && errno == EINTR) {
    }
    CHECK(r == SIGUSR2 && info.si_value.sival_int == 4711, "sigtimedwait, expected SIGUSR2 with 4711, got %d with %d", r, info.si_value.sival_int);
    return NULL;
}

static void *in_wait(void *unused) {
    (void)unused;
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    int status;
    struct rusage usage;
    pid_t r = wait4(waited, &status, 0, &usage);
    CHECK_EQ("wait4", waited, r);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 33, "status of wait4, expected exit 33, got %#x", status);
    return NULL;
}

static int wait_for_pipe(void *unused) {
    (void)unused;
    while (!finishing()) nap(10);
    return 33;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGURG);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    struct sigaction a = {.sa_handler = handler};
    SYS(sigaction(SIGUSR1, &a, NULL));
    SYS(sigaction(SIGURG, &a, NULL));
    SYS(pipe(empty));
    SYS(pipe(full));
    char block[4096] = {0};
    SYS(fcntl(full[1], F_SETFL, O_NONBLOCK));
    long filled = 0;
    for (long n; (n = write(full[1], block, sizeof block)) > 0;) filled += n;
    SYS(fcntl(full[1], F_SETFL, 0));
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
    SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams));
    listener = SYS(socket(AF_INET, SOCK_STREAM, 0));
    SYS(listen(listener, 5));
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    SYS(getsockname(listener, (struct sockaddr *)&address, &length));
    waited = child(wait_for_pipe, NULL);
    void *(*bodies[])(void *) = {in_read, in_write, in_accept, in_recv, in_sigsuspend, in_pause, in_sigtimedwait, in_wait, in_recv_timeout};
    enum { N = sizeof bodies / sizeof *bodies };
    pthread_t t[N];
    for (int i = 0; i < N; i++) t[i] = thread(bodies[i], NULL);
    suspended = t[4], paused = t[5];
    UNTIL(started == N, "all blocked threads");
    nap(50);
    ready();
    while (!finishing()) nap(10);

    SYS(write(empty[1], "r", 1));
    SYS(write(sockets[1], "s", 1));
    int c = SYS(socket(AF_INET, SOCK_STREAM, 0));
    SYS(connect(c, (struct sockaddr *)&address, length));
    SYS(write(c, "a", 1));
    long drained = 0;
    while (drained < filled + 100000) {
        char big[65536];
        long n = SYS(read(full[0], big, sizeof big));
        for (long i = 0; i < n; i++) CHECK_EQ("byte of the full pipe", drained + i < filled ? 0 : 'w', big[i]);
        drained += n;
    }
    pthread_kill(suspended, SIGUSR1);
    UNTIL(handled == 1, "the handler in sigsuspend");
    pthread_kill(paused, SIGURG);
    pthread_sigqueue(t[6], SIGUSR2, (union sigval){.sival_int = 4711});
    for (int i = 0; i < N; i++) join(t[i]);
    return ok();
}
