// TCP connections half-way closed: shut down by one end, by both, with data before the end. Their states must hold,
// the rest of the data must come, then the end of file.
#include "net.h"

static int state(int fd) {
    struct tcp_info info;
    socklen_t n = sizeof info;
    SYS(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n));
    return info.tcpi_state;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    int half[2], data[2], gone[2];
    char got[64];
    tcp_pair(AF_INET, half);
    SYS(shutdown(half[0], SHUT_WR));
    tcp_pair(AF_INET6, data);
    send_all(data[0], "last words", 10);
    send_all(data[1], "not yet read", 12);
    SYS(shutdown(data[0], SHUT_WR));
    tcp_pair(AF_INET, gone);
    send_all(gone[0], "testament", 9);
    SYS(shutdown(gone[0], SHUT_RDWR));
    UNTIL(state(half[0]) == TCP_FIN_WAIT2 && state(data[0]) == TCP_FIN_WAIT2 && state(gone[0]) == TCP_FIN_WAIT2, "the end of the handshakes");
    ready();
    while (!finishing()) {
        CHECK_EQ("state of the end that closed", TCP_FIN_WAIT2, state(half[0]));
        CHECK_EQ("state of the end that was closed", TCP_CLOSE_WAIT, state(half[1]));
        CHECK_EQ("state of the end that closed after data", TCP_FIN_WAIT2, state(data[0]));
        CHECK_EQ("state of the end with unread data", TCP_CLOSE_WAIT, state(data[1]));
        CHECK(send(half[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "send after SHUT_WR, expected EPIPE, got %s", strerror(errno));
        CHECK_EQ("end of file", 0, recv(half[1], got, 1, MSG_DONTWAIT));
        nap(5);
    }
    send_all(half[1], "other half", 10);
    receive_all("other half", half[0], got, 10);
    receive_all("last words", data[1], got, 10);
    CHECK(memcmp(got, "last words", 10) == 0, "data before the end changed");
    CHECK_EQ("end of file after data", 0, recv(data[1], got, 1, 0));
    receive_all("unread data", data[0], got, 12);
    CHECK(memcmp(got, "not yet read", 12) == 0, "unread data changed");
    receive_all("testament", gone[1], got, 9);
    CHECK_EQ("end of file of the closed connection", 0, recv(gone[1], got, 1, 0));
    SYS(shutdown(half[1], SHUT_WR));
    CHECK_EQ("end of file of the other half", 0, recv(half[0], got, 1, 0));
    return ok();
}
