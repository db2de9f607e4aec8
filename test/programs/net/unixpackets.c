// Unix datagram and seqpacket sockets: boundaries, an empty packet, senders' names, connected and bound.
#include "net.h"

int main(int argc, char **argv) {
    begin(argc, argv);
    int packets[2], datagrams[2];
    SYS(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets));
    SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams));
    for (int i = 0; i < 2; i++) {
        int *p = i ? datagrams : packets;
        SYS(send(p[0], "one", 3, 0));
        SYS(send(p[0], "second packet", 13, 0));
        SYS(send(p[0], "3", 1, 0));
        SYS(send(p[1], "answer", 6, 0));
    }
    SYS(shutdown(packets[0], SHUT_WR));
    socklen_t receiver_length, sender_length;
    unlink(work_path("receiver"));
    unlink(work_path("sender"));
    union address receiver_name = named(work_path("receiver"), &receiver_length), sender_name = named(work_path("sender"), &sender_length);
    int receiver = SYS(socket(AF_UNIX, SOCK_DGRAM, 0)), sender = SYS(socket(AF_UNIX, SOCK_DGRAM, 0)), connected = SYS(socket(AF_UNIX, SOCK_DGRAM, 0));
    SYS(bind(receiver, &receiver_name.any, receiver_length));
    SYS(bind(sender, &sender_name.any, sender_length));
    SYS(sendto(sender, "from a name", 11, 0, &receiver_name.any, receiver_length));
    SYS(connect(connected, &receiver_name.any, receiver_length));
    SYS(send(connected, "from nobody", 11, 0));
    struct names names = names_of(receiver), other = names_of(connected);
    ready();
    while (!finishing()) {
        same_names("the receiver", &names, receiver);
        same_names("the connected sender", &other, connected);
        CHECK_EQ("type", SOCK_SEQPACKET, option(packets[0], SOL_SOCKET, SO_TYPE));
        nap(5);
    }
    for (int i = 0; i < 2; i++) {
        int *p = i ? datagrams : packets;
        expect_datagram("first packet", p[1], "one");
        expect_datagram("second packet", p[1], "second packet");
        expect_datagram("third packet", p[1], "3");
        expect_datagram("packet back", p[0], "answer");
    }
    char got[64];
    CHECK_EQ("end of file of the half-closed seqpacket socket", 0, recv(packets[1], got, 1, 0));
    SYS(send(datagrams[0], "again", 5, 0));
    expect_datagram("new datagram", datagrams[1], "again");
    union address from;
    socklen_t n = sizeof from;
    CHECK_EQ("datagram from a name", 11, recvfrom(receiver, got, sizeof got, MSG_DONTWAIT, &from.any, &n));
    CHECK(n == sender_length && strcmp(from.un.sun_path, sender_name.un.sun_path) == 0, "sender of a datagram, expected %s, got %s", sender_name.un.sun_path,
          n > 2 ? from.un.sun_path : "nobody");
    expect_datagram("datagram from nobody", receiver, "from nobody");
    SYS(send(connected, "new", 3, 0));
    expect_datagram("new datagram to a name", receiver, "new");
    SYS(sendto(receiver, "reply", 5, 0, &sender_name.any, sender_length));
    expect_datagram("reply to a name", sender, "reply");
    return ok();
}
