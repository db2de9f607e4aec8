// Alternate signal stacks: registered, in use by a handler that lasts through the checkpoint, and auto-disarmed.
#include "../check.h"
#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

enum { SIZE = 64 << 10 };
static volatile int inside, returned;

struct stack {
    uint8_t *memory;
    int flags;
};

static __thread struct stack *mine;

static void handler(int sig) {
    (void)sig;
    uint8_t local[4096];
    CHECK(local > mine->memory && local < mine->memory + SIZE, "the handler does not run on its alternate stack");
    fill(local, sizeof local, 5);
    __atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST);
    while (!finishing()) {
        stack_t now;
        SYS(sigaltstack(NULL, &now));
        if (mine->flags & (int)SS_AUTODISARM) CHECK_EQ("flags inside an auto-disarming handler", SS_DISABLE, now.ss_flags);
        else {
            CHECK_EQ("flags inside a handler", SS_ONSTACK, now.ss_flags);
            CHECK(now.ss_sp == mine->memory && now.ss_size == SIZE, "alternate stack changed inside the handler");
        }
        verify("locals on the alternate stack", local, sizeof local, 5);
        nap(5);
    }
    returned++;
}

static void *worker(void *arg) {
    mine = arg;
    mine->memory = map_anon(SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    stack_t stack = {.ss_sp = mine->memory, .ss_size = SIZE, .ss_flags = mine->flags}, now;
    SYS(sigaltstack(&stack, NULL));
    pthread_kill(pthread_self(), SIGUSR1);
    SYS(sigaltstack(NULL, &now));
    CHECK(now.ss_sp == mine->memory && now.ss_size == SIZE && now.ss_flags == mine->flags, "alternate stack after the handler, expected %p flags %#x, got %p flags %#x",
          mine->memory, mine->flags, now.ss_sp, now.ss_flags);
    return NULL;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    struct sigaction a = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    SYS(sigaction(SIGUSR1, &a, NULL));
    struct stack kept = {NULL, 0}, disarmed = {NULL, (int)SS_AUTODISARM}, own = {map_anon(SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE), 0};
    stack_t stack = {.ss_sp = own.memory, .ss_size = SIZE}, now;
    SYS(sigaltstack(&stack, NULL));
    pthread_t t1 = thread(worker, &kept), t2 = thread(worker, &disarmed);
    UNTIL(inside == 2, "both handlers");
    ready();
    while (!finishing()) {
        SYS(sigaltstack(NULL, &now));
        CHECK(now.ss_sp == own.memory && now.ss_size == SIZE && now.ss_flags == 0, "registered alternate stack changed");
        nap(5);
    }
    join(t1);
    join(t2);
    CHECK_EQ("handlers that returned", 2, returned);
    mine = &own;
    raise(SIGUSR1);
    CHECK_EQ("handlers that returned", 3, returned);
    return ok();
}
