// System V shared memory: key, id, owner, mode, attaches, a read-only attach, and a segment removed while attached.
#include "../check.h"
#include <sys/ipc.h>
#include <sys/shm.h>

enum { SIZE = 256 << 10 };
static int kept, removed;
static uint8_t *p, *q;

// over tells the child to end, when nobody counts attaches any more.
static volatile uint64_t *over(void) { return (volatile uint64_t *)(p + SIZE - 16); }

static int other(void *unused) {
    (void)unused;
    while (!*over()) {
        verify("segment in the child", p, SIZE / 2, 1);
        verify("removed segment in the child", q, SIZE, 2);
        nap(5);
    }
    return 0;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    key_t key = 0x4b550000 | (getpid() & 0xffff);
    kept = SYS(shmget(key, SIZE, IPC_CREAT | IPC_EXCL | 0640));
    removed = SYS(shmget(IPC_PRIVATE, SIZE, IPC_CREAT | 0600));
    p = SYS(shmat(kept, NULL, 0));
    q = SYS(shmat(removed, NULL, 0));
    SYS(shmctl(removed, IPC_RMID, NULL));
    fill(p, SIZE / 2, 1);
    fill(q, SIZE, 2);
    uint8_t *readonly = SYS(shmat(kept, NULL, SHM_RDONLY));
    pid_t pid = child(other, NULL);
    ready();
    for (uint64_t count = 1; !finishing(); count++) {
        struct shmid_ds s;
        SYS(shmctl(kept, IPC_STAT, &s));
        CHECK_EQ("key", key, s.shm_perm.__key);
        CHECK_EQ("size", SIZE, s.shm_segsz);
        CHECK_EQ("mode", 0640, s.shm_perm.mode & 0777);
        CHECK_EQ("attaches", 4, s.shm_nattch);
        CHECK_EQ("id for the key", kept, shmget(key, 0, 0));
        SYS(shmctl(removed, IPC_STAT, &s));
        CHECK(s.shm_perm.mode & SHM_DEST, "the removed segment is not marked for destruction");
        CHECK_EQ("attaches of the removed segment", 2, s.shm_nattch);
        verify("segment", p, SIZE / 2, 1);
        verify("removed segment", q, SIZE, 2);
        *(volatile uint64_t *)(p + SIZE - 8) = count;
        CHECK_EQ("word seen through the read-only attach", count, *(volatile uint64_t *)(readonly + SIZE - 8));
        CHECK_EQ("signal of a write through the read-only attach", SIGSEGV, touch_signal(readonly, true));
        nap(5);
    }
    *over() = 1;
    CHECK_EQ("exit code of the child", 0, exited(pid, "child"));
    SYS(shmctl(kept, IPC_RMID, NULL));
    SYS(shmdt(readonly));
    SYS(shmdt(p));
    SYS(shmdt(q));
    struct shmid_ds s;
    CHECK(shmctl(removed, IPC_STAT, &s) == -1, "the removed segment survives its last detach");
    return ok();
}
