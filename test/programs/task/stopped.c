// A child with two threads, stopped by SIGSTOP, that its parent continues later.
#include "../check.h"

static void *second(void *counter) {
    while (!finishing()) {
        ++*(volatile long *)counter;
        nap(5);
    }
    return NULL;
}

static volatile long *counter;

static int stopped(void *unused) {
    (void)unused;
    pthread_t t = thread(second, (void *)counter);
    raise(SIGSTOP);
    counter[1] = 1;
    join(t);
    while (!counter[2]) nap(5); // a child that has ended is no longer reported as continued
    return 11;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    counter = map_anon(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    pid_t pid = child(stopped, NULL);
    int status;
    SYS(waitpid(pid, &status, WUNTRACED));
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP, "the child, expected stopped by SIGSTOP, got %#x", status);
    UNTIL(task_state(pid) == 'T', "the stop");
    nap(20);
    long frozen = counter[0];
    ready();
    while (!finishing()) {
        CHECK_EQ("counter of the stopped child", frozen, counter[0]);
        CHECK_EQ("progress of the stopped child", 0, counter[1]);
        nap(10);
    }
    UNTIL(task_state(pid) == 'T', "the stop");
    SYS(kill(pid, SIGCONT));
    SYS(waitpid(pid, &status, WCONTINUED));
    CHECK(WIFCONTINUED(status), "the child, expected continued, got %#x", status);
    counter[2] = 1;
    CHECK_EQ("exit code of the stopped child", 11, exited(pid, "stopped child"));
    CHECK_EQ("progress of the stopped child", 1, counter[1]);
    return ok();
}
