// A child that is traced by its parent.
#include "../check.h"
#include <sys/ptrace.h>

static int traced(void *unused) {
    (void)unused;
    while (!finishing()) nap(10);
    return 0;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    pid_t pid = child(traced, NULL);
    SYS(ptrace(PTRACE_SEIZE, pid, 0, 0));
    say("traced %d", pid);
    ready();
    while (!finishing()) nap(10);
    CHECK_EQ("exit code of the traced child", 0, exited(pid, "traced child"));
    return ok();
}
