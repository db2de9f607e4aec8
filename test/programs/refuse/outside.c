// One end of a pipe or a unix socket whose other end belongs to a process outside of the tree: the root forks, its
// child is what gets checkpointed.
#include "../check.h"
#include <sys/socket.h>

int main(int argc, char **argv) {
    begin(argc, argv);
    int ends[2];
#ifdef KIND_pipe
    SYS(pipe(ends));
#else
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
#endif
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[1]);
        say("fd %d", ends[0]);
        say("target %d", getpid());
        ready();
        while (!finishing()) nap(10);
        _exit(0);
    }
    close(ends[0]);
    CHECK_EQ("exit code of the target", 0, exited(pid, "target"));
    return ok();
}
