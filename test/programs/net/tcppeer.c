// TCP connections to a peer outside of the tree, v4 and v6: the harness. Each end sends numbered words all the time
// and verifies those of the other. A third connection has unread data and unsent data, and then is used.
#include "net.h"

struct flow {
    int fd;
    uint64_t sent, received;
    volatile bool ended;
};

static void *sender(void *arg) {
    struct flow *f = arg;
    while (!finishing()) {
        uint64_t words[512];
        for (int i = 0; i < 512; i++) words[i] = f->sent + i;
        send_all(f->fd, words, sizeof words);
        f->sent += 512;
        nap(1);
    }
    SYS(shutdown(f->fd, SHUT_WR));
    return NULL;
}

static void *receiver(void *arg) {
    struct flow *f = arg;
    uint64_t word;
    for (;;) {
        size_t at = 0;
        while (at < sizeof word) {
            long n = recv(f->fd, (char *)&word + at, sizeof word - at, 0);
            CHECK(n >= 0, "recv from the peer after %lu words: %s", f->received, strerror(errno));
            if (n == 0) {
                CHECK_EQ("bytes of an unfinished word", 0, at);
                return NULL;
            }
            at += n;
        }
        CHECK_EQ("word from the peer", f->received, word);
        f->received++;
    }
}

int main(int argc, char **argv) {
    begin(argc, argv);
    int v4 = listen_on(AF_INET, 0, 5), v6 = listen_on(AF_INET6, 0, 5);
    say("port4 %d", port_of(v4));
    say("port6 %d", port_of(v6));
    struct flow flows[2] = {{.fd = SYS(accept(v4, NULL, NULL))}, {.fd = SYS(accept(v6, NULL, NULL))}};
    int quiet = SYS(accept(v4, NULL, NULL));
    // The peer sends 100,000 bytes and reads nothing until told.
    static uint8_t data[8 << 20], got[100000];
    fill(data, sizeof data, 3);
    UNTIL(queued(quiet) == sizeof got, "the peer's data");
    long sent = 0;
    for (int idle = 0; sent < (long)sizeof data && idle < 20;) {
        long n = send(quiet, data + sent, sizeof data - sent, MSG_DONTWAIT);
        if (n > 0) sent += n, idle = 0;
        else nap(5), idle++;
    }
    say("sent %ld", sent);
    pthread_t t[] = {thread(sender, &flows[0]), thread(receiver, &flows[0]), thread(sender, &flows[1]), thread(receiver, &flows[1])};
    ready();
    while (!finishing()) nap(10);
    for (int i = 0; i < 4; i++) join(t[i]);
    receive_all("queue of the quiet connection", quiet, got, sizeof got);
    verify("queue of the quiet connection", got, sizeof got, 4);
    CHECK_EQ("end of file of the quiet connection", 0, recv(quiet, got, 1, 0));
    return ok();
}
