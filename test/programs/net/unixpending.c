// Connections to a listening unix socket that nobody has accepted yet, one with data. Either restored, or refused.
#include "net.h"

int main(int argc, char **argv) {
    begin(argc, argv);
    socklen_t n;
    unlink(work_path("listener"));
    union address a = named(work_path("listener"), &n);
    int listener = SYS(socket(AF_UNIX, SOCK_STREAM, 0)), clients[2];
    SYS(bind(listener, &a.any, n));
    SYS(listen(listener, 5));
    for (int i = 0; i < 2; i++) {
        clients[i] = SYS(socket(AF_UNIX, SOCK_STREAM, 0));
        SYS(connect(clients[i], &a.any, n));
    }
    SYS(send(clients[0], "first", 5, 0));
    ready();
    while (!finishing()) {
        struct pollfd p = {listener, POLLIN, 0};
        CHECK_EQ("listener with pending connections", 1, poll(&p, 1, 0));
        nap(5);
    }
    char got[8];
    int first = SYS(accept(listener, NULL, NULL)), second = SYS(accept(listener, NULL, NULL));
    receive_all("the first connection", first, got, 5);
    CHECK(memcmp(got, "first", 5) == 0, "data of the pending connection changed");
    SYS(send(second, "second", 6, 0));
    receive_all("the second connection", clients[1], got, 6);
    return ok();
}
