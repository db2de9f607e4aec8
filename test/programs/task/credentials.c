// Credentials: real, effective, saved and file-system ids, groups, five capability sets, securebits, no_new_privs, of
// several processes, and of one thread that differs from its process.
#include "../check.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/fsuid.h>

#ifndef SECBIT_KEEP_CAPS
#define SECBIT_KEEP_CAPS (1 << 4)
#endif
static volatile int *started;

static void take_caps(uint64_t permitted, uint64_t effective, uint64_t inheritable) {
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct d[2];
    for (int i = 0; i < 2; i++) {
        d[i].permitted = permitted >> (32 * i);
        d[i].effective = effective >> (32 * i);
        d[i].inheritable = inheritable >> (32 * i);
    }
    SYS(syscall(SYS_capset, &h, d));
}

// credentials copies the lines of /proc/thread-self/status that tell them.
static void credentials(char *text, size_t size) {
    static const char *keys[] = {"Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:"};
    FILE *f = fopen("/proc/thread-self/status", "re");
    char line[512];
    *text = 0;
    while (fgets(line, sizeof line, f))
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
            if (strncmp(line, keys[i], strlen(keys[i])) == 0) strncat(text, line, size - strlen(text) - 1);
    fclose(f);
    snprintf(line, sizeof line, "securebits %#x", prctl(PR_GET_SECUREBITS));
    strncat(text, line, size - strlen(text) - 1);
}

static int keep(const char *who) {
    char want[2048], got[2048];
    credentials(want, sizeof want);
    __atomic_add_fetch(started, 1, __ATOMIC_SEQ_CST);
    while (!finishing()) {
        credentials(got, sizeof got);
        CHECK(strcmp(want, got) == 0, "credentials of %s, expected\n%s\ngot\n%s", who, want, got);
        nap(5);
    }
    return 6;
}

#define CAP(n) (1ULL << (n))

static int mixed_ids(void *unused) {
    (void)unused;
    gid_t groups[] = {100, 200, 300, 70000};
    SYS(setgroups(4, groups));
    SYS(setresgid(1001, 1002, 1003));
    setfsgid(1003);
    SYS(setresuid(2001, 0, 2003));
    setfsuid(2003);
    return keep("a process with mixed ids");
}

static int plain_user(void *unused) {
    (void)unused;
    SYS(setgroups(0, NULL));
    SYS(setresgid(1500, 1500, 1500));
    SYS(setresuid(1500, 1500, 1500));
    return keep("an ordinary user");
}

static int capable_user(void *unused) {
    (void)unused;
    SYS(prctl(PR_CAPBSET_DROP, CAP_SYS_MODULE));
    SYS(prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT));
    SYS(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS));
    SYS(setresgid(1600, 1600, 1600));
    SYS(setresuid(1600, 1600, 1600));
    take_caps(CAP(CAP_NET_ADMIN) | CAP(CAP_NET_BIND_SERVICE) | CAP(CAP_CHOWN) | CAP(CAP_SYS_NICE), CAP(CAP_NET_BIND_SERVICE) | CAP(CAP_CHOWN),
              CAP(CAP_NET_BIND_SERVICE) | CAP(CAP_SYS_NICE));
    SYS(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0));
    return keep("a user with capabilities");
}

static int bare_root(void *unused) {
    (void)unused;
    SYS(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE));
    SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    take_caps(0, 0, 0);
    return keep("root without capabilities");
}

// Raw system calls change one thread; glibc's wrappers would change all.
static void *other_thread(void *unused) {
    (void)unused;
    SYS(syscall(SYS_setresgid, 1700, 1700, 1700));
    SYS(syscall(SYS_setresuid, 1700, 1700, 1700));
    keep("a thread that differs from its process");
    return NULL;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    started = map_anon(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    int (*bodies[])(void *) = {mixed_ids, plain_user, capable_user, bare_root};
    enum { N = sizeof bodies / sizeof *bodies };
    pid_t pids[N];
    for (int i = 0; i < N; i++) pids[i] = child(bodies[i], NULL);
    pthread_t t = thread(other_thread, NULL);
    UNTIL(*started == N + 1, "all processes");
    ready();
    keep("root");
    for (int i = 0; i < N; i++) CHECK_EQ("exit code", 6, exited(pids[i], "process with credentials"));
    join(t);
    return ok();
}
