// A seccomp filter.
#include "../check.h"
#include <linux/filter.h>
#include <linux/seccomp.h>

int main(int argc, char **argv) {
    begin(argc, argv);
    struct sock_filter code[] = {{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
    struct sock_fprog program = {1, code};
    SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    SYS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
    ready();
    while (!finishing()) nap(10);
    return ok();
}
