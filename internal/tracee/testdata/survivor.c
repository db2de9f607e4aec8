// Checks itself all the time, in many threads: registers with AVX, flags, red zones, signal masks, futexes, polls, sleeps, timers. It exits
// loudly at the first mistake. Each thread counts its rounds in the file named by the first argument.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define FAIL(...) do { fprintf(stderr, "survivor: " __VA_ARGS__); fprintf(stderr, "\n"); _exit(1); } while (0)

static volatile uint64_t *rounds;

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

// All general registers but rsp hold what is known, carry and direction flags too, and all ymm; a loop in the midst gives time for
// a stop.
static void *registers(void *arg)
{
	static const uint8_t pattern[32] __attribute__((aligned(32))) = {
		1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
		17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32 };
	for (;; rounds[(long)arg]++) {
		uint64_t bad, flags;
		uint8_t out[32] __attribute__((aligned(32)));
		asm volatile(
			"push %%rbp\n"
			"vmovdqa %[p], %%ymm0\n"
			"vmovdqa %%ymm0, %%ymm7\n"
			"vmovdqa %%ymm0, %%ymm15\n"
			"mov $0x1111111111111111, %%rbx\n"
			"mov $0x2222222222222222, %%rdx\n"
			"mov $0x3333333333333333, %%rsi\n"
			"mov $0x4444444444444444, %%rdi\n"
			"mov $0x5555555555555555, %%r8\n"
			"mov $0x6666666666666666, %%r9\n"
			"mov $0x7777777777777777, %%r10\n"
			"mov $0x8888888888888888, %%r11\n"
			"mov $0x9999999999999999, %%r12\n"
			"mov $0xaaaaaaaaaaaaaaaa, %%r13\n"
			"mov $0xbbbbbbbbbbbbbbbb, %%r14\n"
			"mov $0xcccccccccccccccc, %%r15\n"
			"mov $0xdddddddddddddddd, %%rbp\n"
			"mov $20000, %%ecx\n"
			"std\n"
			"stc\n"
			"1: lea -1(%%rcx), %%rcx\n"
			"jrcxz 2f\n"
			"jmp 1b\n"
			"2: pushfq\n"
			"pop %%rax\n"
			"cld\n"
			"mov %%rax, %%rcx\n"
			"xor %%eax, %%eax\n"
			"push %%rcx\n"
			"mov $0x1111111111111111, %%rcx\n xor %%rcx, %%rbx\n or %%rbx, %%rax\n"
			"mov $0x2222222222222222, %%rcx\n xor %%rcx, %%rdx\n or %%rdx, %%rax\n"
			"mov $0x3333333333333333, %%rcx\n xor %%rcx, %%rsi\n or %%rsi, %%rax\n"
			"mov $0x4444444444444444, %%rcx\n xor %%rcx, %%rdi\n or %%rdi, %%rax\n"
			"mov $0x5555555555555555, %%rcx\n xor %%rcx, %%r8\n or %%r8, %%rax\n"
			"mov $0x6666666666666666, %%rcx\n xor %%rcx, %%r9\n or %%r9, %%rax\n"
			"mov $0x7777777777777777, %%rcx\n xor %%rcx, %%r10\n or %%r10, %%rax\n"
			"mov $0x8888888888888888, %%rcx\n xor %%rcx, %%r11\n or %%r11, %%rax\n"
			"mov $0x9999999999999999, %%rcx\n xor %%rcx, %%r12\n or %%r12, %%rax\n"
			"mov $0xaaaaaaaaaaaaaaaa, %%rcx\n xor %%rcx, %%r13\n or %%r13, %%rax\n"
			"mov $0xbbbbbbbbbbbbbbbb, %%rcx\n xor %%rcx, %%r14\n or %%r14, %%rax\n"
			"mov $0xcccccccccccccccc, %%rcx\n xor %%rcx, %%r15\n or %%r15, %%rax\n"
			"mov $0xdddddddddddddddd, %%rcx\n xor %%rcx, %%rbp\n or %%rbp, %%rax\n"
			"pop %%rcx\n"
			"vpxor %%ymm0, %%ymm7, %%ymm7\n"
			"vpxor %%ymm0, %%ymm15, %%ymm15\n"
			"vpor %%ymm7, %%ymm15, %%ymm15\n"
			"vpxor %[p], %%ymm0, %%ymm0\n"
			"vpor %%ymm0, %%ymm15, %%ymm15\n"
			"pop %%rbp\n"
			"vmovdqa %%ymm15, %[o]\n"
			: "=a"(bad), "=c"(flags), [o] "=m"(out)
			: [p] "m"(pattern)
			: "rbx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "cc", "memory",
			  "xmm0", "xmm7", "xmm15");
		if (bad)
			FAIL("general registers differ by %#lx", bad);
		if ((flags & 0x401) != 0x401)
			FAIL("flags are %#lx", flags);
		for (int i = 0; i < 32; i++)
			if (out[i])
				FAIL("vector registers differ");
	}
}

// A leaf that keeps its state below the stack pointer.
static void *red_zone(void *arg)
{
	for (;; rounds[(long)arg]++) {
		uint64_t bad;
		asm volatile(
			"movq $0x1234567, -8(%%rsp)\n"
			"movq $0x2345678, -64(%%rsp)\n"
			"movq $0x3456789, -128(%%rsp)\n"
			"mov $20000, %%ecx\n"
			"1: dec %%ecx\n"
			"jnz 1b\n"
			"mov -8(%%rsp), %%rax\n"
			"xor $0x1234567, %%rax\n"
			"mov -64(%%rsp), %%rdx\n"
			"xor $0x2345678, %%rdx\n"
			"or %%rdx, %%rax\n"
			"mov -128(%%rsp), %%rdx\n"
			"xor $0x3456789, %%rdx\n"
			"or %%rdx, %%rax\n"
			: "=a"(bad) : : "rcx", "rdx", "cc", "memory");
		if (bad)
			FAIL("red zone differs by %#lx", bad);
	}
}

// Blocks everything that can be blocked, the signals kup uses too.
static void *masked(void *arg)
{
	sigset_t all, is;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, 0);
	pthread_sigmask(SIG_SETMASK, 0, &all);
	for (;; rounds[(long)arg]++) {
		struct timespec t = { 0, 300000 };
		nanosleep(&t, 0);
		pthread_sigmask(SIG_SETMASK, 0, &is);
		if (memcmp(&all, &is, 8))
			FAIL("signal mask differs");
	}
}

static void *sleeper(void *arg)
{
	for (;; rounds[(long)arg]++) {
		struct timespec t = { 0, 3000000 };
		int64_t begin = now();
		if (nanosleep(&t, 0))
			FAIL("nanosleep: %s", strerror(errno));
		if (now() - begin < 3000000)
			FAIL("nanosleep lasted only %ld ns", now() - begin);
	}
}

static void *poller(void *arg)
{
	int fds[2];
	if (pipe(fds))
		FAIL("pipe");
	for (;; rounds[(long)arg]++) {
		struct pollfd p = { fds[0], POLLIN, 0 };
		int64_t begin = now();
		int n = poll(&p, 1, 4);
		if (n)
			FAIL("poll returned %d, %s", n, strerror(errno));
		if (now() - begin < 4000000)
			FAIL("poll lasted only %ld ns", now() - begin);
	}
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static int turn;

static void *futexes(void *arg)
{
	int mine = (long)arg & 1;
	for (;; rounds[(long)arg]++) {
		pthread_mutex_lock(&mutex);
		while (turn != mine)
			if (pthread_cond_wait(&turned, &mutex))
				FAIL("pthread_cond_wait");
		turn = !mine;
		pthread_cond_signal(&turned);
		pthread_mutex_unlock(&mutex);
		usleep(200);
	}
}

static int ball[2][2];

static void *pipes(void *arg)
{
	int mine = (long)arg & 1;
	for (uint64_t expect = 0;; rounds[(long)arg]++, expect++) {
		uint64_t n = expect;
		if (mine && write(ball[0][1], &n, 8) != 8)
			FAIL("write: %s", strerror(errno));
		if (read(ball[mine][0], &n, 8) != 8)
			FAIL("read: %s", strerror(errno));
		if (n != expect)
			FAIL("read %lu instead of %lu", n, expect);
		if (!mine && write(ball[1][1], &n, 8) != 8)
			FAIL("write: %s", strerror(errno));
		if (mine)
			usleep(100);
	}
}

static volatile int alarms;
static void on_alarm(int sig) { alarms++; }

// A single alarm ends each wait: one that is lost is waited for forever. (A plain pause would lose one that comes too early.)
static void *alarmed(void *arg)
{
	sigset_t others;
	pthread_sigmask(SIG_SETMASK, 0, &others);
	sigdelset(&others, SIGALRM);
	for (;; rounds[(long)arg]++) {
		int before = alarms;
		struct itimerval once = { { 0, 0 }, { 0, 3000 } };
		setitimer(ITIMER_REAL, &once, 0);
		if (sigsuspend(&others) != -1 || errno != EINTR)
			FAIL("sigsuspend: %s", strerror(errno));
		if (alarms != before + 1)
			FAIL("%d alarms in a wait", alarms - before);
	}
}

int main(int argc, char **argv)
{
	static struct { void *(*run)(void *); } threads[] = {
		{ registers }, { registers }, { red_zone }, { masked }, { sleeper }, { poller }, { futexes }, { futexes },
		{ pipes }, { pipes }, { alarmed },
	};
	int fd = open(argv[1], O_RDWR);
	rounds = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (rounds == MAP_FAILED || pipe(ball[0]) || pipe(ball[1]))
		FAIL("set up");
	struct sigaction action = { .sa_handler = on_alarm };
	sigaction(SIGALRM, &action, 0);
	sigset_t alarm;
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	sigprocmask(SIG_BLOCK, &alarm, 0);
	for (long i = 0; i < sizeof threads / sizeof *threads; i++) {
		pthread_t t;
		if (pthread_create(&t, 0, threads[i].run, (void *)i))
			FAIL("pthread_create");
	}
	usleep(50000);
	printf("ready\n");
	fflush(stdout);
	for (;; rounds[63]++) {
		struct timespec t = { 1000, 0 };
		nanosleep(&t, 0);
	}
}
