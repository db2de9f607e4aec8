// A process of one shape: subject MODE COUNT BEAT. It adds one to the first word of the file BEAT all the time, which shows that it runs.
//
//   idle         nothing else
//   threads      COUNT threads that wait
//   processes    COUNT processes that wait
//   mappings     COUNT mappings of one page each
//   memory       COUNT MiB of random bytes
//   writes       the same, and writes to its pages one after the other, some half a GB of them each second
//   connections  COUNT TCP connections to the port in the second word of BEAT, whose bytes it sends back
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static volatile uint64_t *beat;
static int poll_fd;

static void must(int ok, const char *what) {
    if (ok) return;
    perror(what);
    exit(1);
}

static void *waiting(void *unused) {
    for (;;) pause();
    return unused;
}

static void threads(long count) {
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    for (long i = 1; i < count; i++) {
        pthread_t t;
        must(!pthread_create(&t, &small, waiting, NULL), "pthread_create");
    }
}

static void processes(long count) {
    for (long i = 1; i < count; i++) {
        pid_t pid = fork();
        must(pid >= 0, "fork");
        if (pid == 0) waiting(NULL);
    }
}

static void mappings(long count) {
    for (long i = 0; i < count; i++) {
        // Neighbours differ, so that they stay apart.
        uint8_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | (i & 1 ? PROT_EXEC : 0), MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        must(page != MAP_FAILED, "mmap");
        *page = 1;
    }
}

static uint8_t *fill(long count) {
    size_t words = (size_t)count << 17;
    uint64_t *all = mmap(NULL, words * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), x = 1;
    must(all != MAP_FAILED, "mmap");
    for (size_t i = 0; i < words; i++) x ^= x << 13, x ^= x >> 7, x ^= x << 17, all[i] = x;
    return (uint8_t *)all;
}

static void memory(long count) { fill(count); }

static uint8_t *written;
static size_t written_size;

static void writes(long count) {
    written = fill(count);
    written_size = (size_t)count << 20;
}

static void write_on(void) {
    static size_t at;
    for (int i = 0; i < 32; i++, at = (at + 4096) % written_size) written[at]++;
}

static void connections(long count) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(beat[1]), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    poll_fd = epoll_create1(0);
    for (long i = 0; i < count; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        must(connect(fd, (struct sockaddr *)&to, sizeof to) == 0, "connect");
        must(epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd}) == 0, "epoll_ctl");
    }
}

static void echo(void) {
    struct epoll_event events[64];
    char block[4096];
    int n = epoll_wait(poll_fd, events, 64, 1);
    for (int i = 0; i < n; i++) {
        ssize_t got = read(events[i].data.fd, block, sizeof block);
        must(got > 0 && write(events[i].data.fd, block, got) == got, "echo");
    }
}

int main(int argc, char **argv) {
    must(argc == 4, "usage");
    int fd = open(argv[3], O_RDWR);
    must(fd >= 0, argv[3]);
    beat = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    must(beat != MAP_FAILED, argv[3]);
    close(fd);
    long count = atol(argv[2]);
    void (*shapes[])(long) = {threads, processes, mappings, memory, writes, connections};
    const char *names[] = {"threads", "processes", "mappings", "memory", "writes", "connections"};
    for (int i = 0; i < 6; i++)
        if (!strcmp(argv[1], names[i])) shapes[i](count);
    for (;; beat[0]++) {
        if (written) write_on();
        poll_fd ? echo() : (void)usleep(200);
    }
}
