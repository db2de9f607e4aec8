// A descriptor in flight in a unix socket. Either restored, or refused.
#include "net.h"

int main(int argc, char **argv) {
    begin(argc, argv);
    int pair[2], file = SYS(open(work_path("sent"), O_RDWR | O_CREAT | O_TRUNC, 0600));
    SYS(write(file, "content", 7));
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr header;
    } control = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control.header), &file, sizeof file);
    char byte = 'x';
    struct iovec io = {&byte, 1};
    struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    SYS(sendmsg(pair[0], &message, 0));
    close(file);
    ready();
    while (!finishing()) nap(10);
    memset(&control, 0, sizeof control);
    CHECK_EQ("recvmsg", 1, recvmsg(pair[1], &message, 0));
    CHECK_EQ("kind of the control message", SCM_RIGHTS, control.header.cmsg_type);
    int got;
    memcpy(&got, CMSG_DATA(&control.header), sizeof got);
    char content[8] = {0};
    SYS(pread(got, content, 7, 0));
    CHECK(strcmp(content, "content") == 0, "content of the received file, expected content, got %s", content);
    CHECK_EQ("offset of the received file", 7, lseek(got, 0, SEEK_CUR));
    return ok();
}
