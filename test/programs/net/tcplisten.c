// Listening TCP sockets, v4 and v6, v6-only and dual, and bound sockets that do not listen: they take new connections
// after the restore, with their backlog and options.
#include "net.h"

int main(int argc, char **argv) {
    begin(argc, argv);
    int v4 = listen_on(AF_INET, 0, 9), v6 = listen_on(AF_INET6, 0, 9);
    socklen_t n;
    union address any = loopback(AF_INET6, 0, &n);
    any.v6.sin6_addr = in6addr_any;
    int dual = SYS(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    set_option(dual, SOL_SOCKET, SO_REUSEADDR, 1);
    set_option(dual, SOL_SOCKET, SO_REUSEPORT, 1);
    set_option(dual, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    set_option(dual, IPPROTO_TCP, TCP_DEFER_ACCEPT, 3);
    set_option(dual, IPPROTO_TCP, TCP_NODELAY, 1);
    SYS(bind(dual, &any.any, n));
    SYS(listen(dual, 20));
    int twin = SYS(socket(AF_INET6, SOCK_STREAM, 0));
    set_option(twin, SOL_SOCKET, SO_REUSEPORT, 1);
    any.v6.sin6_port = htons(port_of(dual));
    SYS(bind(twin, &any.any, n));
    SYS(listen(twin, 20));
    union address loop = loopback(AF_INET, 0, &n);
    int bound = SYS(socket(AF_INET, SOCK_STREAM, 0)), fresh = SYS(socket(AF_INET6, SOCK_STREAM, 0));
    SYS(bind(bound, &loop.any, n));
    struct names names[] = {names_of(v4), names_of(v6), names_of(dual), names_of(bound)};
    int sockets[] = {v4, v6, dual, bound}, defer = option(dual, IPPROTO_TCP, TCP_DEFER_ACCEPT);
    ready();
    while (!finishing()) {
        for (int i = 0; i < 4; i++) {
            same_names("a listener", &names[i], sockets[i]);
            CHECK_EQ("SO_ACCEPTCONN", i < 3, option(sockets[i], SOL_SOCKET, SO_ACCEPTCONN));
        }
        CHECK_EQ("SO_REUSEADDR", 1, option(dual, SOL_SOCKET, SO_REUSEADDR));
        CHECK_EQ("SO_REUSEADDR of the plain one", 0, option(v4, SOL_SOCKET, SO_REUSEADDR));
        CHECK_EQ("SO_REUSEPORT", 1, option(twin, SOL_SOCKET, SO_REUSEPORT));
        CHECK_EQ("IPV6_V6ONLY", 0, option(dual, IPPROTO_IPV6, IPV6_V6ONLY));
        CHECK_EQ("TCP_DEFER_ACCEPT", defer, option(dual, IPPROTO_TCP, TCP_DEFER_ACCEPT));
        CHECK_EQ("TCP_NODELAY", 1, option(dual, IPPROTO_TCP, TCP_NODELAY));
        CHECK_EQ("O_NONBLOCK", O_NONBLOCK, fcntl(dual, F_GETFL) & O_NONBLOCK);
        struct tcp_info info;
        n = sizeof info;
        SYS(getsockopt(v4, IPPROTO_TCP, TCP_INFO, &info, &n));
        CHECK_EQ("backlog", 9, info.tcpi_sacked);
        nap(5);
    }
    for (int i = 0; i < 2; i++) {
        int c = connect_to(i ? AF_INET6 : AF_INET, port_of(sockets[i])), s = SYS(accept(sockets[i], NULL, NULL));
        char got;
        send_all(c, "n", 1);
        receive_all("a new connection", s, &got, 1);
        close(s);
        close(c);
    }
    int c = connect_to(AF_INET, port_of(dual));
    send_all(c, "d", 1);
    struct pollfd either[] = {{dual, POLLIN, 0}, {twin, POLLIN, 0}};
    CHECK(poll(either, 2, 10000) >= 1, "a v4 connection never reached the dual listeners");
    SYS(listen(bound, 3));
    int late = connect_to(AF_INET, port_of(bound));
    SYS(accept(bound, NULL, NULL));
    close(late);
    SYS(connect(fresh, &names[1].local.any, names[1].local_length));
    return ok();
}
