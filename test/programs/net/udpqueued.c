// UDP sockets with datagrams in their queue: content, boundaries, senders. Either restored, or refused.
#include "net.h"

int main(int argc, char **argv) {
    begin(argc, argv);
    static const int families[] = {AF_INET, AF_INET6};
    int server[2], client[2];
    struct names names[2];
    for (int f = 0; f < 2; f++) {
        socklen_t n;
        union address a = loopback(families[f], 0, &n);
        server[f] = SYS(socket(families[f], SOCK_DGRAM, 0));
        client[f] = SYS(socket(families[f], SOCK_DGRAM, 0));
        SYS(bind(server[f], &a.any, n));
        union address to = names_of(server[f]).local;
        SYS(connect(client[f], &to.any, n));
        names[f] = names_of(client[f]);
        SYS(send(client[f], "one", 3, 0));
        SYS(send(client[f], "", 0, 0));
        SYS(send(client[f], "third", 5, 0));
    }
    ready();
    while (!finishing()) {
        for (int f = 0; f < 2; f++) CHECK_EQ("size of the first datagram", 3, queued(server[f]));
        nap(5);
    }
    for (int f = 0; f < 2; f++) {
        union address from;
        memset(&from, 0, sizeof from);
        socklen_t n = sizeof from;
        char got[16];
        CHECK_EQ("first datagram", 3, recvfrom(server[f], got, sizeof got, MSG_DONTWAIT, &from.any, &n));
        CHECK(memcmp(&from, &names[f].local, n) == 0, "the queued datagram has another sender");
        expect_datagram("empty datagram", server[f], "");
        expect_datagram("third datagram", server[f], "third");
    }
    return ok();
}
