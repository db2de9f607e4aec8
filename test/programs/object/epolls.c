// epoll: interest lists with data, edge-triggered, one-shot (armed and spent), nested, a registration whose
// descriptor number is closed while a duplicate keeps it alive, and one under a number that was used again.
#include "../check.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

static int add(int e, int fd, uint32_t events, uint64_t data) {
    SYS(epoll_ctl(e, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = events, .data.u64 = data}));
    return fd;
}

static void bump(int fd, uint64_t by) { SYS(write(fd, &by, 8)); }

// expect verifies that exactly the given data words are reported, 0 ends the list.
static void expect(const char *what, int e, const uint64_t *want) {
    struct epoll_event got[16];
    int n = epoll_wait(e, got, 16, 0), wanted = 0;
    while (want[wanted]) wanted++;
    for (int i = 0; i < n; i++) {
        bool found = false;
        for (int k = 0; k < wanted; k++) found = found || want[k] == got[i].data.u64;
        CHECK(found, "%s: event for %#lx, which was not expected", what, (long)got[i].data.u64);
    }
    CHECK_EQ(what, wanted, n);
}
#define EXPECT(what, e, ...) expect(what, e, (const uint64_t[]){__VA_ARGS__ 0})

int main(int argc, char **argv) {
    begin(argc, argv);
    int e = SYS(epoll_create1(EPOLL_CLOEXEC)), inner = SYS(epoll_create1(0)), outer = SYS(epoll_create1(0)), closed = SYS(epoll_create1(0));
    int level = add(e, SYS(eventfd(1, EFD_NONBLOCK)), EPOLLIN, 0x1111111122222222);
    int edge = add(e, SYS(eventfd(0, EFD_NONBLOCK)), EPOLLIN | EPOLLET, 0x33);
    int once = add(e, SYS(eventfd(0, EFD_NONBLOCK)), EPOLLIN | EPOLLONESHOT, 0x44);
    int spent = add(e, SYS(eventfd(1, EFD_NONBLOCK)), EPOLLIN | EPOLLONESHOT, 0x55);
    int out = add(e, SYS(eventfd(0, EFD_NONBLOCK)), EPOLLOUT, 0x66);
    EXPECT("first wait", e, 0x1111111122222222, 0x55, 0x66, );
    int deep = add(inner, SYS(eventfd(0, EFD_NONBLOCK)), EPOLLIN, 0x77);
    add(outer, inner, EPOLLIN, 0x88);
    int number = add(closed, SYS(eventfd(0, EFD_NONBLOCK)), EPOLLIN, 0x99);
    int survivor = SYS(dup(number));
    close(number);
    int reused = SYS(eventfd(0, EFD_NONBLOCK));
    CHECK_EQ("descriptor number, used again", number, reused);
    add(closed, reused, EPOLLIN, 0xaa);
    ready();
    while (!finishing()) {
        EXPECT("epoll with two that are ready", e, 0x1111111122222222, 0x66, );
        EXPECT("nested epoll", outer, );
        EXPECT("epoll with a closed number", closed, );
        CHECK_EQ("close-on-exec", FD_CLOEXEC, fcntl(e, F_GETFD));
        nap(5);
    }
    bump(edge, 1);
    EXPECT("edge", e, 0x1111111122222222, 0x33, 0x66, );
    EXPECT("no second edge", e, 0x1111111122222222, 0x66, );
    bump(once, 1);
    EXPECT("one-shot", e, 0x1111111122222222, 0x44, 0x66, );
    EXPECT("spent one-shot", e, 0x1111111122222222, 0x66, );
    SYS(epoll_ctl(e, EPOLL_CTL_MOD, spent, &(struct epoll_event){.events = EPOLLIN, .data.u64 = 0x56}));
    EXPECT("one-shot armed again", e, 0x1111111122222222, 0x56, 0x66, );
    uint64_t v;
    SYS(read(level, &v, 8));
    SYS(epoll_ctl(e, EPOLL_CTL_DEL, out, NULL));
    EXPECT("after read and removal", e, 0x56, );
    bump(deep, 1);
    EXPECT("outer epoll", outer, 0x88, );
    EXPECT("inner epoll", inner, 0x77, );
    bump(survivor, 1);
    EXPECT("registration of a closed number", closed, 0x99, );
    bump(reused, 1);
    EXPECT("both registrations of one number", closed, 0x99, 0xaa, );
    return ok();
}
