// Attributes set by prctl: dumpable, no_new_privs, parent-death signal, subreaper, transparent huge pages disabled,
// machine-check policy, and the name of each thread.
#include "../check.h"

static void get(int option, const char *what, long want) { CHECK_EQ(what, want, prctl(option, 0, 0, 0, 0)); }

static void *no_new_privs(void *unused) {
    (void)unused;
    SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    while (!finishing()) {
        get(PR_GET_NO_NEW_PRIVS, "no_new_privs of the thread that set it", 1);
        nap(5);
    }
    return NULL;
}

static int undumpable(void *unused) {
    (void)unused;
    SYS(prctl(PR_SET_DUMPABLE, 0));
    while (!finishing()) {
        get(PR_GET_DUMPABLE, "dumpable", 0);
        nap(5);
    }
    return 3;
}

static volatile int *told;
static void on_parent_death(int sig) { (void)sig, *told = 1; }

static int bereaved(void *unused) {
    (void)unused;
    signal(SIGUSR1, on_parent_death);
    SYS(prctl(PR_SET_PDEATHSIG, SIGUSR1));
    told[1] = getpid();
    for (int64_t end = 0; !end || now_ms() < end; nap(5)) {
        int sig = 0;
        SYS(prctl(PR_GET_PDEATHSIG, &sig));
        CHECK_EQ("parent-death signal", SIGUSR1, sig);
        if (finishing() && !end) end = now_ms() + 10000;
        if (*told) return 4;
    }
    fail("the parent-death signal never came");
}

static int middle(void *unused) {
    (void)unused;
    child(bereaved, NULL);
    while (!finishing()) nap(5);
    nap(50);
    return 5;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    told = map_anon(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    SYS(prctl(PR_SET_CHILD_SUBREAPER, 1));
    SYS(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
    SYS(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
    SYS(prctl(PR_SET_TSC, PR_TSC_ENABLE));
    pid_t secret = child(undumpable, NULL), parent = child(middle, NULL);
    pthread_t t = thread(no_new_privs, NULL);
    UNTIL(told[1], "the grandchild");
    nap(20);
    ready();
    while (!finishing()) {
        int subreaper = 0;
        SYS(prctl(PR_GET_CHILD_SUBREAPER, &subreaper));
        CHECK_EQ("subreaper", 1, subreaper);
        get(PR_GET_THP_DISABLE, "disabled huge pages", 1);
        get(PR_MCE_KILL_GET, "machine-check policy", PR_MCE_KILL_EARLY);
        get(PR_GET_NO_NEW_PRIVS, "no_new_privs of the thread that did not set it", 0);
        get(PR_GET_DUMPABLE, "dumpable", 1);
        nap(5);
    }
    CHECK_EQ("exit code of the undumpable child", 3, exited(secret, "undumpable child"));
    CHECK_EQ("exit code of the middle process", 5, exited(parent, "middle process"));
    CHECK_EQ("exit code of the bereaved grandchild", 4, exited(told[1], "bereaved grandchild"));
    join(t);
    return ok();
}
