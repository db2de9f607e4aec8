// A server of short connections: 8 bytes come, and go back. With -DMULTIPATH it listens with a socket of MPTCP, as servers in Go do.
#include "net.h"

#ifndef MULTIPATH
#define PROTOCOL 0
#else
#define PROTOCOL 262 // IPPROTO_MPTCP
#endif

static int listener;

static void *serve(void *unused) {
    (void)unused;
    struct pollfd asked = {listener, POLLIN, 0};
    while (!finishing()) {
        if (SYS(poll(&asked, 1, 100)) == 0) continue;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC); // another thread may have been faster
        if (fd == -1 && (errno == EAGAIN || errno == ECONNABORTED)) continue;
        char word[8];
        receive_all("a short connection", SYS(fd), word, sizeof word);
        send_all(fd, word, sizeof word);
        SYS(close(fd));
    }
    return NULL;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, PROTOCOL);
    if (listener == -1) {
        lacks("sockets of MPTCP (CONFIG_MPTCP, net.mptcp.enabled)");
        listener = SYS(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    }
    set_option(listener, SOL_SOCKET, SO_REUSEADDR, 1); // what was closed lately has the address, too
    socklen_t n;
    union address a = loopback(AF_INET, 0, &n);
    SYS(bind(listener, &a.any, n));
    SYS(listen(listener, 100));
    say("port %d", port_of(listener));
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) threads[i] = thread(serve, NULL);
    ready();
    for (int i = 0; i < 2; i++) join(threads[i]);
    return ok();
}
