// Established TCP connections over loopback, v4 and v6, with both ends in the tree: queued data in both directions,
// more than the receiver's window takes, and a stream that goes on while everything else happens.
#include "net.h"

enum { BIG = 3 << 20 };

struct stream {
    int fd;
    uint64_t seed, count;
};

static void *producer(void *arg) {
    struct stream *s = arg;
    uint8_t block[4096];
    while (!finishing()) {
        for (size_t i = 0; i < sizeof block; i++) block[i] = noise(s->seed, s->count + i);
        send_all(s->fd, block, sizeof block);
        s->count += sizeof block;
        nap(1);
    }
    SYS(shutdown(s->fd, SHUT_WR));
    return NULL;
}

static void *consumer(void *arg) {
    struct stream *s = arg;
    uint8_t block[5000];
    for (;;) {
        long n = recv(s->fd, block, sizeof block, 0);
        CHECK(n >= 0, "recv of the stream after %lu bytes: %s", s->count, strerror(errno));
        if (n == 0) return NULL;
        for (long i = 0; i < n; i++) CHECK_EQ("byte of the stream", noise(s->seed, s->count + i), block[i]);
        s->count += n;
    }
}

static void check_queue(const char *what, int fd, size_t n, uint64_t seed) {
    uint8_t *got = malloc(n);
    receive_all(what, fd, got, n);
    verify(what, got, n, seed);
    free(got);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    static const int families[] = {AF_INET, AF_INET6};
    int live[2][2], queue[2][2];
    struct stream streams[2][4];
    pthread_t threads[2][4];
    size_t sent[2] = {0};
    struct names names[2][2];
    uint8_t *data = malloc(BIG), small[5000];
    fill(data, BIG, 50);
    fill(small, sizeof small, 51);
    for (int f = 0; f < 2; f++) {
        tcp_pair(families[f], queue[f]);
        // Until the sender's buffer is full: some lies in the receive queue, some in the send queue.
        for (long n; sent[f] < BIG && (n = send(queue[f][0], data + sent[f], BIG - sent[f], MSG_DONTWAIT)) > 0;) sent[f] += n;
        send_all(queue[f][1], small, sizeof small);
        for (int i = 0; i < 2; i++) names[f][i] = names_of(queue[f][i]);
        tcp_pair(families[f], live[f]);
        for (int i = 0; i < 4; i++) {
            streams[f][i] = (struct stream){live[f][i / 2 ^ i % 2], 10 * f + i / 2, 0};
            threads[f][i] = thread(i % 2 ? consumer : producer, &streams[f][i]);
        }
    }
    ready();
    while (!finishing()) {
        for (int f = 0; f < 2; f++)
            for (int i = 0; i < 2; i++) same_names("an end", &names[f][i], queue[f][i]);
        nap(5);
    }
    for (int f = 0; f < 2; f++) {
        for (int i = 0; i < 4; i++) join(threads[f][i]);
        for (int i = 0; i < 4; i += 2) CHECK_EQ("bytes of the stream", streams[f][i].count, streams[f][i + 1].count);
        check_queue("queue there", queue[f][1], sent[f], 50);
        check_queue("queue back", queue[f][0], sizeof small, 51);
        CHECK_EQ("queued bytes at the end", 0, queued(queue[f][1]));
    }
    return ok();
}
