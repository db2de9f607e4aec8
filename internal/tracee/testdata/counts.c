// Counts real-time signals with values, in the file named by its first argument. Each must come once, in order.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile uint64_t *count;

static void handler(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)info, (void)context;
	count[0]++;
}

int main(int argc, char **argv)
{
	int fd = open(argv[1], O_RDWR);
	count = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (count == MAP_FAILED)
		return 1;
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART };
	sigaction(SIGRTMIN, &action, 0);
	printf("ready\n");
	fflush(stdout);
	for (;; count[1]++)
		usleep(100);
}
