// A session and a process group whose leader has died and was reaped; the root adopts orphans as child subreaper.
#include "../check.h"

static pid_t *survivor; // shared with the children

static int live(void *unused) {
    (void)unused;
    UNTIL(getppid() != getsid(0), "adoption by the subreaper");
    struct ids ids = ids_now();
    CHECK(ids.sid != ids.pid, "the survivor leads its session");
    *survivor = getpid();
    while (!finishing()) {
        check_ids("survivor of a dead session", &ids, true);
        nap(10);
    }
    return 9;
}

static int leader(void *unused) {
    (void)unused;
    SYS(setsid());
    child(live, NULL);
    return 0;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    SYS(prctl(PR_SET_CHILD_SUBREAPER, 1));
    survivor = map_anon(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    pid_t dead = child(leader, NULL);
    CHECK_EQ("exit code of the session leader", 0, exited(dead, "session leader"));
    UNTIL(*survivor, "the survivor");
    ready();
    while (!finishing()) {
        int subreaper = 0;
        SYS(prctl(PR_GET_CHILD_SUBREAPER, &subreaper));
        CHECK_EQ("subreaper", 1, subreaper);
        CHECK_EQ("session of the survivor", dead, getsid(*survivor));
        CHECK_EQ("group of the survivor", dead, getpgid(*survivor));
        nap(10);
    }
    CHECK_EQ("exit code of the survivor", 9, exited(*survivor, "survivor"));
    return ok();
}
