// UDP sockets, v4 and v6: bound, connected, options. Queued datagrams are either restored or the checkpoint refused:
// see udpqueued.
#include "net.h"

int main(int argc, char **argv) {
    begin(argc, argv);
    static const int families[] = {AF_INET, AF_INET6};
    int server[2], client[2], plain[2];
    struct names names[2][3];
    for (int f = 0; f < 2; f++) {
        socklen_t n;
        union address a = loopback(families[f], 0, &n);
        server[f] = SYS(socket(families[f], SOCK_DGRAM | SOCK_CLOEXEC, 0));
        client[f] = SYS(socket(families[f], SOCK_DGRAM | SOCK_NONBLOCK, 0));
        plain[f] = SYS(socket(families[f], SOCK_DGRAM, 0));
        SYS(bind(server[f], &a.any, n));
        names[f][0] = names_of(server[f]);
        SYS(connect(client[f], &names[f][0].local.any, n));
        names[f][1] = names_of(client[f]);
        set_option(server[f], SOL_SOCKET, SO_RCVBUF, 90000);
        set_option(client[f], SOL_SOCKET, SO_BROADCAST, 1);
    }
    set_option(server[0], IPPROTO_IP, IP_PKTINFO, 1);
    set_option(server[0], IPPROTO_IP, IP_TOS, 0x08);
    set_option(server[1], IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
    int rcvbuf = option(server[0], SOL_SOCKET, SO_RCVBUF);
    ready();
    while (!finishing()) {
        for (int f = 0; f < 2; f++) {
            same_names("the UDP server", &names[f][0], server[f]);
            same_names("the UDP client", &names[f][1], client[f]);
            CHECK_EQ("SO_RCVBUF", rcvbuf, option(server[f], SOL_SOCKET, SO_RCVBUF));
            CHECK_EQ("SO_BROADCAST", 1, option(client[f], SOL_SOCKET, SO_BROADCAST));
        }
        CHECK_EQ("IP_PKTINFO", 1, option(server[0], IPPROTO_IP, IP_PKTINFO));
        CHECK_EQ("IP_TOS", 0x08, option(server[0], IPPROTO_IP, IP_TOS));
        CHECK_EQ("IPV6_RECVPKTINFO", 1, option(server[1], IPPROTO_IPV6, IPV6_RECVPKTINFO));
        nap(5);
    }
    for (int f = 0; f < 2; f++) {
        union address from;
        socklen_t n = sizeof from;
        char got[16];
        SYS(send(client[f], "ping", 4, 0));
        CHECK_EQ("datagram at the server", 4, recvfrom(server[f], got, sizeof got, 0, &from.any, &n));
        CHECK(memcmp(&from, &names[f][1].local, n) == 0, "the datagram comes from another address than before");
        SYS(sendto(server[f], "pong", 4, 0, &from.any, n));
        struct pollfd p = {client[f], POLLIN, 0};
        CHECK_EQ("datagram at the client", 1, poll(&p, 1, 10000));
        expect_datagram("datagram at the client", client[f], "pong");
        SYS(sendto(plain[f], "plain", 5, 0, &names[f][0].local.any, names[f][0].local_length));
        p.fd = server[f];
        CHECK_EQ("datagram of the plain socket", 1, poll(&p, 1, 10000));
    }
    return ok();
}
