// Huge pages of hugetlbfs: private, shared with a child, and a memfd of them. The harness reserves the pages.
#include "../check.h"

enum { HUGE = 2 << 20 };
static uint8_t *shared, *inherited;

static int other(void *unused) {
    (void)unused;
    while (!finishing()) {
        verify("shared huge page in the child", shared, PAGE * 4, 2);
        verify("inherited huge page in the child", inherited, PAGE * 4, 1);
        nap(10);
    }
    return 0;
}

static void check_huge(const char *what, const void *p) {
    CHECK(vm_flag(p, "ht"), "%s is no longer of hugetlbfs: no ht in VmFlags", what);
    char line[256];
    smaps_line(p, "KernelPageSize:", line, sizeof line);
    CHECK(strstr(line, "2048 kB"), "%s, expected pages of 2048 kB, got %s", what, line);
}

static void check_all_huge(const void *p, const void *mapped) {
    check_huge("the private mapping", p);
    check_huge("the shared mapping", shared);
    check_huge("the memfd", mapped);
}

int main(int argc, char **argv) {
    begin(argc, argv);
    uint8_t *p = map_anon(2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_HUGETLB | 21 << 26);
    inherited = p;
    shared = map_anon(HUGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_HUGETLB | 21 << 26);
    int fd = SYS(memfd_create("huge", MFD_HUGETLB | 21U << 26));
    SYS(ftruncate(fd, HUGE));
    uint8_t *mapped = SYS(mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    fill(p, 2 * HUGE, 1);
    fill(shared, HUGE, 2);
    fill(mapped, HUGE, 3);
    pid_t pid = child(other, NULL);
    ready();
    for (int round = 0; !finishing(); round++) {
        verify("private huge pages", p, 2 * HUGE, 1);
        verify("shared huge page", shared, HUGE, 2);
        verify("huge memfd", mapped, HUGE, 3);
        if (round % 64 == 0) check_all_huge(p, mapped); // rarely: see locked.c
        nap(10);
    }
    check_all_huge(p, mapped);
    CHECK_EQ("exit code of the child", 0, exited(pid, "child"));
    return ok();
}
