// Pipes: content, size, O_NONBLOCK, packet mode, a closed writer, a closed reader, ends in two processes.
#include "../check.h"
#include <sys/ioctl.h>

static int big[2], packets[2], hungup[2], broken[2], across[2], back[2];

static int other(void *unused) {
    (void)unused;
    close(across[1]);
    close(back[0]);
    char c;
    for (int i = 0; read(across[0], &c, 1) == 1; i++) {
        CHECK_EQ("byte through the pipe between processes", i & 0x7f, c);
        c ^= 0x55;
        SYS(write(back[1], &c, 1));
    }
    return 8;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    static uint8_t content[150000], got[150000];
    fill(content, sizeof content, 1);
    SYS(pipe2(big, O_NONBLOCK));
    SYS(fcntl(big[1], F_SETPIPE_SZ, 256 << 10));
    SYS(write(big[1], content, sizeof content));
    SYS(fcntl(big[0], F_SETFL, 0));
    SYS(pipe2(packets, O_DIRECT | O_CLOEXEC));
    SYS(write(packets[1], "one", 3));
    SYS(write(packets[1], "second", 6));
    SYS(write(packets[1], "3", 1));
    SYS(pipe(hungup));
    SYS(write(hungup[1], "rest", 4));
    close(hungup[1]);
    SYS(pipe(broken));
    close(broken[0]);
    SYS(pipe(across));
    SYS(pipe(back));
    pid_t pid = child(other, NULL);
    close(across[0]);
    close(back[1]);
    ready();
    for (int i = 0; !finishing(); i++) {
        CHECK_EQ("size of the pipe", 256 << 10, fcntl(big[0], F_GETPIPE_SZ));
        CHECK_EQ("O_NONBLOCK of the reading end", 0, fcntl(big[0], F_GETFL) & O_NONBLOCK);
        CHECK_EQ("O_NONBLOCK of the writing end", O_NONBLOCK, fcntl(big[1], F_GETFL) & O_NONBLOCK);
        CHECK_EQ("packet mode", O_DIRECT, fcntl(packets[1], F_GETFL) & O_DIRECT);
        CHECK_EQ("close-on-exec", FD_CLOEXEC, fcntl(packets[0], F_GETFD));
        int n;
        SYS(ioctl(big[0], FIONREAD, &n));
        CHECK_EQ("bytes in the pipe", sizeof content, n);
        SYS(ioctl(packets[0], FIONREAD, &n));
        CHECK_EQ("bytes in the packet pipe", 10, n);
        CHECK(write(broken[1], "x", 1) == -1 && errno == EPIPE, "write to a pipe without reader, expected EPIPE, got %s", strerror(errno));
        char c = i & 0x7f;
        SYS(write(across[1], &c, 1));
        CHECK_EQ("read of the answer", 1, read(back[0], &c, 1));
        CHECK_EQ("answer of the other process", (i & 0x7f) ^ 0x55, c);
        nap(5);
    }
    for (size_t at = 0; at < sizeof got;) at += SYS(read(big[0], got + at, sizeof got - at));
    CHECK(memcmp(content, got, sizeof got) == 0, "content of the pipe changed");
    const char *want[] = {"one", "second", "3"};
    for (int i = 0; i < 3; i++) {
        long n = read(packets[0], got, 100);
        CHECK(n == (long)strlen(want[i]) && memcmp(got, want[i], n) == 0, "packet %d, expected %s, got %ld bytes", i, want[i], n);
    }
    CHECK_EQ("read of what a closed writer left", 4, read(hungup[0], got, 100));
    CHECK_EQ("end of file after a closed writer", 0, read(hungup[0], got, 100));
    close(across[1]);
    CHECK_EQ("exit code of the other process", 8, exited(pid, "other process"));
    return ok();
}
