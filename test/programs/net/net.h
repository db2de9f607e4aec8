// net.h: what the socket programs share.
#ifndef NET_H
#define NET_H
#include "../check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un un;
    struct sockaddr_storage storage;
};

static inline union address loopback(int family, int port, socklen_t *length) {
    union address a;
    memset(&a, 0, sizeof a);
    a.any.sa_family = family;
    if (family == AF_INET) {
        a.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        a.v4.sin_port = htons(port);
        *length = sizeof a.v4;
    } else {
        a.v6.sin6_addr = in6addr_loopback;
        a.v6.sin6_port = htons(port);
        *length = sizeof a.v6;
    }
    return a;
}

// named makes a unix address; a name that starts with '@' is abstract.
static inline union address named(const char *name, socklen_t *length) {
    union address a;
    memset(&a, 0, sizeof a);
    a.un.sun_family = AF_UNIX;
    if (strlen(name) >= sizeof a.un.sun_path) fail("unix address %s is too long", name);
    memcpy(a.un.sun_path, name, strlen(name));
    *length = offsetof(struct sockaddr_un, sun_path) + strlen(name) + (name[0] == '@' ? 0 : 1);
    if (name[0] == '@') a.un.sun_path[0] = 0;
    return a;
}

static inline int port_of(int fd) {
    union address a;
    socklen_t n = sizeof a;
    SYS(getsockname(fd, &a.any, &n));
    return ntohs(a.any.sa_family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
}

static inline int listen_on(int family, int port, int backlog) {
    socklen_t n;
    union address a = loopback(family, port, &n);
    int fd = SYS(socket(family, SOCK_STREAM, 0));
    SYS(bind(fd, &a.any, n));
    SYS(listen(fd, backlog));
    return fd;
}

static inline int connect_to(int family, int port) {
    socklen_t n;
    union address a = loopback(family, port, &n);
    int fd = SYS(socket(family, SOCK_STREAM, 0));
    SYS(connect(fd, &a.any, n));
    return fd;
}

// tcp_pair makes two ends of a connection over loopback.
static inline void tcp_pair(int family, int ends[2]) {
    int l = listen_on(family, 0, 1);
    ends[0] = connect_to(family, port_of(l));
    ends[1] = SYS(accept(l, NULL, NULL));
    close(l);
}

static inline int option(int fd, int level, int name) {
    int v = 0;
    socklen_t n = sizeof v;
    if (getsockopt(fd, level, name, &v, &n) == -1) fail("getsockopt %d %d: %s", level, name, strerror(errno));
    return v;
}

static inline void set_option(int fd, int level, int name, int v) {
    if (setsockopt(fd, level, name, &v, sizeof v) == -1) fail("setsockopt %d %d to %d: %s", level, name, v, strerror(errno));
}

// names copies both addresses of a socket into one comparable block.
struct names {
    union address local, remote;
    socklen_t local_length, remote_length;
};

static inline struct names names_of(int fd) {
    struct names a;
    memset(&a, 0, sizeof a);
    a.local_length = sizeof a.local, a.remote_length = sizeof a.remote;
    SYS(getsockname(fd, &a.local.any, &a.local_length));
    if (getpeername(fd, &a.remote.any, &a.remote_length) == -1) a.remote_length = 0;
    return a;
}

static inline void same_names(const char *what, const struct names *want, int fd) {
    struct names got = names_of(fd);
    CHECK(memcmp(want, &got, sizeof got) == 0, "addresses of %s changed (ports %d and %d to %d and %d)", what, ntohs(want->local.v4.sin_port), ntohs(want->remote.v4.sin_port),
          ntohs(got.local.v4.sin_port), ntohs(got.remote.v4.sin_port));
}

static inline void send_all(int fd, const void *p, size_t n) {
    for (size_t at = 0; at < n;) at += SYS(send(fd, (const char *)p + at, n - at, MSG_NOSIGNAL));
}

static inline void receive_all(const char *what, int fd, void *p, size_t n) {
    for (size_t at = 0; at < n;) {
        long got = recv(fd, (char *)p + at, n - at, 0);
        CHECK(got > 0, "%s: recv after %zu of %zu bytes, expected more, got %ld (%s)", what, at, n, got, got < 0 ? strerror(errno) : "end of file");
        at += got;
    }
}

static inline int queued(int fd) {
    int n;
    SYS(ioctl(fd, FIONREAD, &n));
    return n;
}

// expect_datagram receives one datagram and compares it.
static inline void expect_datagram(const char *what, int fd, const char *want) {
    char got[256] = {0};
    long n = recv(fd, got, sizeof got, MSG_DONTWAIT);
    CHECK(n == (long)strlen(want) && memcmp(got, want, n) == 0, "%s, expected \"%s\", got %ld bytes \"%s\" (%s)", what, want, n, got, n < 0 ? strerror(errno) : "");
}

#endif
