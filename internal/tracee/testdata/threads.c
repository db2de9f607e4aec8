// As many sleeping threads as the first argument says. Each has blocked every second signal.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *sleeper(void *arg)
{
	sigset_t set;
	sigemptyset(&set);
	for (int i = (long)arg & 1; i < 64; i += 2)
		sigaddset(&set, i + 1);
	pthread_sigmask(SIG_BLOCK, &set, 0);
	for (;;)
		pause();
	return arg;
}

int main(int argc, char **argv)
{
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 << 10);
	for (long i = 1; i < atol(argv[1]); i++) {
		pthread_t t;
		if (pthread_create(&t, &attr, sleeper, (void *)i))
			return 1;
	}
	printf("ready\n");
	fflush(stdout);
	for (;;)
		pause();
}
