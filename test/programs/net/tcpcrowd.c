// Two threads that talk over two hundred connections, one after another, and count their rounds in a file that the harness reads.
#include "net.h"

enum { PAIRS = 200, BLOCK = 1000 };
static int ends[PAIRS][2];
static volatile uint64_t *rounds; // a shared mapping of the file "progress", one per thread

static void transfer(const char *what, int fd, uint8_t *block, ssize_t (*move)(int, void *, size_t, int)) {
    for (size_t done = 0; done < BLOCK;) {
        ssize_t n = move(fd, block + done, BLOCK - done, 0);
        CHECK(n > 0, "%s: %s", what, n ? strerror(errno) : "end of file");
        done += n;
    }
}

static ssize_t sending(int fd, void *block, size_t n, int flags) { return send(fd, block, n, flags | MSG_NOSIGNAL); }

static void *talker(void *arg) {
    uint8_t block[BLOCK];
    for (uint64_t n = 0; !finishing(); n++) {
        for (int i = 0; i < PAIRS; i++) {
            fill(block, BLOCK, n + i);
            transfer("send", ends[i][0], block, sending);
        }
        for (int i = 0; i < PAIRS; i++) {
            transfer("recv of what comes back", ends[i][0], block, recv);
            verify("what comes back", block, BLOCK, n + i);
        }
        rounds[0]++;
        nap(1);
    }
    for (int i = 0; i < PAIRS; i++) SYS(shutdown(ends[i][0], SHUT_WR));
    return arg;
}

static void *echo(void *arg) {
    uint8_t block[BLOCK];
    for (;;) {
        for (int i = 0; i < PAIRS; i++) {
            if (recv(ends[i][1], block, 1, MSG_PEEK) == 0) return arg;
            transfer("recv", ends[i][1], block, recv);
            transfer("send back", ends[i][1], block, sending);
        }
        rounds[1]++;
    }
}

int main(int argc, char **argv) {
    begin(argc, argv);
    int file = SYS(open(work_path("progress"), O_RDWR | O_CREAT, 0644));
    SYS(ftruncate(file, 2 * sizeof *rounds));
    rounds = SYS(mmap(NULL, 2 * sizeof *rounds, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
    for (int i = 0; i < PAIRS; i++) tcp_pair(AF_INET, ends[i]);
    pthread_t t[2] = {thread(talker, NULL), thread(echo, NULL)};
    ready();
    for (int i = 0; i < 2; i++) join(t[i]);
    return ok();
}
