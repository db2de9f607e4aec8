// The thread-group leader has exited (a zombie), its thread lives on.
#include "../check.h"

static void *survivor(void *arg) {
    struct ids *ids = arg, own = ids_now();
    UNTIL(task_state(ids->pid) == 'Z', "the end of the leader");
    ready();
    while (!finishing()) {
        check_ids("the surviving thread", &own, false);
        CHECK_EQ("state of the dead leader", 'Z', task_state(ids->pid));
        nap(10);
    }
    _exit(ok());
}

int main(int argc, char **argv) {
    begin(argc, argv);
    static struct ids ids;
    ids = ids_now();
    thread(survivor, &ids);
    pthread_exit(NULL);
}
