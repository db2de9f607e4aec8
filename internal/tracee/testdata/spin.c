// One thread that counts, sleeps or spins as told by its first argument.
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <poll.h>

int main(int argc, char **argv) {
	printf("ready\n");
	fflush(stdout);
	if (!strcmp(argv[1], "spin"))
		for (volatile long i = 0;; i++)
			;
	if (!strcmp(argv[1], "clock"))
		for (struct timespec t;;)
			clock_gettime(CLOCK_MONOTONIC, &t);
	if (!strcmp(argv[1], "pause"))
		for (;;)
			pause();
	if (!strcmp(argv[1], "poll"))
		for (;;)
			poll(0, 0, -1);
	return 2;
}
