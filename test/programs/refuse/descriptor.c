// A descriptor of a kind that no code handles; which, is compiled in.
#include "../check.h"
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <linux/netlink.h>

static int descriptor(void) {
#if defined KIND_inotify
    int fd = SYS(inotify_init1(IN_CLOEXEC));
    SYS(inotify_add_watch(fd, work_dir, IN_CREATE));
    return fd;
#elif defined KIND_fanotify
    return fanotify_init(FAN_CLASS_NOTIF, O_RDONLY);
#elif defined KIND_perf
    struct perf_event_attr a = {.type = PERF_TYPE_SOFTWARE, .size = sizeof a, .config = PERF_COUNT_SW_TASK_CLOCK};
    return syscall(SYS_perf_event_open, &a, 0, -1, -1, 0);
#elif defined KIND_bpf
    union bpf_attr a = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 4};
    return syscall(SYS_bpf, BPF_MAP_CREATE, &a, sizeof a);
#elif defined KIND_userfaultfd
    int fd = SYS(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
    struct uffdio_api api = {.api = UFFD_API};
    SYS(ioctl(fd, UFFDIO_API, &api));
    void *p = map_anon(16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    struct uffdio_register r = {.range = {(uintptr_t)p, 16 * PAGE}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    SYS(ioctl(fd, UFFDIO_REGISTER, &r));
    return fd;
#elif defined KIND_tty
    int fd = SYS(posix_openpt(O_RDWR | O_NOCTTY));
    return fd;
#elif defined KIND_netlink
    return SYS(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
#elif defined KIND_raw
    return SYS(socket(AF_INET, SOCK_RAW, 1));
#elif defined KIND_pidfd
    return SYS(syscall(SYS_pidfd_open, 1, 0));
#elif defined KIND_mqueue
    char name[64];
    snprintf(name, sizeof name, "kup-test-%d", getpid());
    int fd = syscall(SYS_mq_open, name, O_RDWR | O_CREAT | O_EXCL, 0600, NULL);
    if (fd != -1) syscall(SYS_mq_unlink, name);
    return fd;
#elif defined KIND_device
    return open("/dev/cpu_dma_latency", O_RDWR);
#elif defined KIND_process
    return open("/proc/self/mountinfo", O_RDONLY);
#else
#error no KIND_
#endif
}

int main(int argc, char **argv) {
    begin(argc, argv);
    int fd = descriptor();
    if (fd == -1) say("lacks: this kind of descriptor (%s)", strerror(errno));
    else say("fd %d", fd);
    ready();
    while (!finishing()) nap(10);
    return ok();
}
