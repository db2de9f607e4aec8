// A process tree: sessions, process groups, a group whose leader is gone, zombies with their status.
#include "../check.h"

static int live(void *who) {
    struct ids ids = ids_now();
    while (!finishing()) {
        check_ids(who, &ids, true);
        nap(10);
    }
    return 7;
}

static int own_group(void *who) {
    SYS(setpgid(0, 0));
    return live(who);
}

static int own_session(void *who) {
    SYS(setsid());
    pid_t member = child(live, "member of the second session");
    pid_t grouped = child(own_group, "group of the second session");
    int code = live(who);
    CHECK_EQ("exit code of the member", 7, exited(member, "member"));
    CHECK_EQ("exit code of the group", 7, exited(grouped, "group"));
    return code;
}

static int exit_with(void *code) { return (int)(intptr_t)code; }

static int wait_for_kill(void *unused) {
    (void)unused;
    for (;;) pause();
    return 0;
}

static pid_t zombie(int (*body)(void *), void *arg, int sig) {
    pid_t pid = child(body, arg);
    if (sig) SYS(kill(pid, sig));
    siginfo_t info;
    SYS(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
    return pid;
}

static void check_zombie(pid_t pid, int code, int status, bool reap) {
    siginfo_t info = {0};
    SYS(waitid(P_PID, pid, &info, WEXITED | WNOHANG | (reap ? 0 : WNOWAIT)));
    CHECK_EQ("pid of the zombie", pid, info.si_pid);
    CHECK_EQ("si_code of the zombie", code, info.si_code);
    CHECK_EQ("status of the zombie", status, info.si_status);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    struct ids ids = ids_now();
    pid_t plain = child(live, "plain child");
    pid_t group = child(own_group, "group leader");
    pid_t session = child(own_session, "session leader");

    pid_t leader = child(wait_for_kill, NULL);
    SYS(setpgid(leader, leader));
    pid_t orphan = fork();
    if (orphan == 0) {
        setpgid(0, leader);
        _exit(live("member of a group whose leader is gone"));
    }
    UNTIL(getpgid(orphan) == leader, "the member in its group");
    SYS(kill(leader, SIGKILL));
    SYS(waitpid(leader, NULL, 0));

    pid_t left = zombie(exit_with, (void *)42, 0);
    pid_t killed = zombie(wait_for_kill, NULL, SIGKILL);
    pid_t terminated = zombie(wait_for_kill, NULL, SIGTERM);
    nap(50);
    ready();
    while (!finishing()) {
        check_ids("the root", &ids, false);
        check_zombie(left, CLD_EXITED, 42, false);
        check_zombie(killed, CLD_KILLED, SIGKILL, false);
        check_zombie(terminated, CLD_KILLED, SIGTERM, false);
        CHECK_EQ("group of the orphaned member", leader, getpgid(orphan));
        CHECK_EQ("session of the second leader", session, getsid(session));
        CHECK_EQ("group of the zombie", ids.pgid, getpgid(left));
        nap(10);
    }
    check_zombie(left, CLD_EXITED, 42, true);
    check_zombie(killed, CLD_KILLED, SIGKILL, true);
    check_zombie(terminated, CLD_KILLED, SIGTERM, true);
    CHECK_EQ("exit code of the plain child", 7, exited(plain, "plain child"));
    CHECK_EQ("exit code of the group leader", 7, exited(group, "group leader"));
    CHECK_EQ("exit code of the session leader", 7, exited(session, "session leader"));
    CHECK_EQ("exit code of the orphaned member", 7, exited(orphan, "orphaned member"));
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "a child too many");
    return ok();
}
