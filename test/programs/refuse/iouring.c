// An io_uring.
#include "../check.h"
#include <linux/io_uring.h>

int main(int argc, char **argv) {
    begin(argc, argv);
    struct io_uring_params p = {0};
    int fd = syscall(SYS_io_uring_setup, 4, &p);
    if (fd == -1) say("lacks: io_uring (io_uring_setup: %s)", strerror(errno));
    else say("fd %d", fd);
    ready();
    while (!finishing()) nap(10);
    return ok();
}
