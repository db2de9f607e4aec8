// Threads that fault all the time, as runtimes do that check pointers by their signals: each fault is handled once, with its own address.
#include "../check.h"
#include <setjmp.h>

static __thread sigjmp_buf back;
static __thread int signo, code;
static __thread void *address;

static void on_fault(int sig, siginfo_t *info, void *context) {
    (void)context;
    signo = sig, code = info->si_code, address = info->si_addr;
    siglongjmp(back, 1);
}

static void expect(const char *what, int sig, int si_code, void *at) {
    CHECK_EQ(what, sig, signo);
    CHECK_EQ("its si_code", si_code, code);
    CHECK(!at || at == address, "%s: expected the address %p, got %p", what, at, address);
    signo = 0;
}

static void *faulting(void *arg) {
    volatile uint8_t *page = map_anon(PAGE, PROT_NONE, MAP_PRIVATE);
    for (unsigned n = (uintptr_t)arg; !finishing(); n++) {
        volatile uint8_t *at = page + n % PAGE;
        if (sigsetjmp(back, 1) == 0) {
            (void)*at;
            fail("memory without permissions was read");
        }
        expect("signal of a read", SIGSEGV, SEGV_ACCERR, (void *)at);
        if (sigsetjmp(back, 1) == 0) {
            __asm__ volatile("cltd; idivl %0" : : "r"(0), "a"(1) : "edx");
            fail("a division by zero has a result");
        }
        expect("signal of a division by zero", SIGFPE, FPE_INTDIV, NULL);
        if (sigsetjmp(back, 1) == 0) {
            __asm__ volatile("ud2");
            fail("an undefined instruction was executed");
        }
        expect("signal of an undefined instruction", SIGILL, ILL_ILLOPN, NULL);
    }
    return NULL;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    SYS(sigaction(SIGSEGV, &action, NULL));
    SYS(sigaction(SIGFPE, &action, NULL));
    SYS(sigaction(SIGILL, &action, NULL));
    pthread_t threads[3];
    for (uintptr_t i = 0; i < 3; i++) threads[i] = thread(faulting, (void *)i);
    ready();
    while (!finishing()) nap(5);
    for (int i = 0; i < 3; i++) join(threads[i]);
    return ok();
}
