// Unix stream sockets: pairs with queued data in both directions, half-closed, closed, across processes, peer credentials.
#include "net.h"

enum { QUEUED = 60000 };
static int across[2];

static int echo(void *unused) {
    (void)unused;
    close(across[0]);
    char c;
    while (read(across[1], &c, 1) == 1) {
        c++;
        SYS(write(across[1], &c, 1));
    }
    return 12;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    int pair[2], half[2], closed[2];
    static uint8_t there[QUEUED], back[QUEUED / 3], got[QUEUED];
    fill(there, sizeof there, 1);
    fill(back, sizeof back, 2);
    SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair));
    send_all(pair[0], there, sizeof there);
    send_all(pair[1], back, sizeof back);
    set_option(pair[0], SOL_SOCKET, SO_PASSCRED, 1);
    set_option(pair[1], SOL_SOCKET, SO_SNDBUF, 100000);
    int sndbuf = option(pair[1], SOL_SOCKET, SO_SNDBUF);
    SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, half));
    send_all(half[0], "last words", 10);
    SYS(shutdown(half[0], SHUT_WR));
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, closed));
    send_all(closed[0], "testament", 9);
    close(closed[0]);
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, across));
    pid_t pid = child(echo, NULL);
    close(across[1]);
    ready();
    for (int i = 0; !finishing(); i++) {
        char c = i & 63;
        SYS(write(across[0], &c, 1));
        CHECK_EQ("read of the answer", 1, read(across[0], &c, 1));
        CHECK_EQ("answer", (i & 63) + 1, c);
        CHECK_EQ("queued bytes there", sizeof there, queued(pair[1]));
        CHECK_EQ("queued bytes back", sizeof back, queued(pair[0]));
        CHECK_EQ("O_NONBLOCK", O_NONBLOCK, fcntl(pair[0], F_GETFL) & O_NONBLOCK);
        CHECK_EQ("close-on-exec", FD_CLOEXEC, fcntl(half[1], F_GETFD));
        CHECK_EQ("SO_PASSCRED", 1, option(pair[0], SOL_SOCKET, SO_PASSCRED));
        CHECK_EQ("SO_SNDBUF", sndbuf, option(pair[1], SOL_SOCKET, SO_SNDBUF));
        CHECK(send(half[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "send after SHUT_WR, expected EPIPE, got %s", strerror(errno));
        struct ucred peer;
        socklen_t n = sizeof peer;
        SYS(getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &peer, &n));
        CHECK_EQ("pid in SO_PEERCRED", getpid(), peer.pid);
        nap(5);
    }
    receive_all("there", pair[1], got, sizeof there);
    CHECK(memcmp(got, there, sizeof there) == 0, "queued data there changed");
    receive_all("back", pair[0], got, sizeof back);
    CHECK(memcmp(got, back, sizeof back) == 0, "queued data back changed");
    CHECK(recv(pair[0], got, 1, 0) == -1 && errno == EAGAIN, "empty socket, expected EAGAIN, got %s", strerror(errno));
    receive_all("half-closed", half[1], got, 10);
    CHECK(memcmp(got, "last words", 10) == 0, "data of the half-closed socket changed");
    CHECK_EQ("end of file of the half-closed socket", 0, recv(half[1], got, 1, 0));
    send_all(half[1], "reply", 5);
    receive_all("other half", half[0], got, 5);
    receive_all("closed peer", closed[1], got, 9);
    CHECK_EQ("end of file of a closed peer", 0, recv(closed[1], got, 1, 0));
    CHECK(send(closed[1], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "send to a closed peer, expected EPIPE, got %s", strerror(errno));
    close(across[0]);
    CHECK_EQ("exit code of the echo", 12, exited(pid, "echo"));
    return ok();
}
