// Makes processes and threads as fast as it can: by fork, vfork and posix_spawn, pthread_create, and execve in a thread.
#define _GNU_SOURCE
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char *self;

static void *nothing(void *arg) { return arg; }

static void *forks(void *arg)
{
	for (;;) {
		pid_t p = fork();
		if (!p) {
			if (!fork())
				_exit(0);
			wait(0);
			_exit(0);
		}
		waitpid(p, 0, 0);
	}
	return arg;
}

static void *spawns(void *arg)
{
	char *args[] = { self, "slow", 0 };
	for (;;) {
		pid_t p;
		if (posix_spawn(&p, self, 0, 0, args, args + 2))
			_exit(1);
		waitpid(p, 0, 0);
	}
	return arg;
}

static void *vforks(void *arg)
{
	for (;;) {
		pid_t p = vfork();
		if (!p) {
			usleep(3000);
			execl(self, self, "exec", (char *)0);
			_exit(1);
		}
		waitpid(p, 0, 0);
	}
	return arg;
}

static void *execs(void *arg)
{
	execl(self, self, "quick", (char *)0);
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t t;

	self = argv[0];
	if (argc > 1 && !strcmp(argv[1], "exec")) {
		pthread_create(&t, 0, execs, 0);
		for (;;)
			pause();
	}
	if (argc > 1 && !strcmp(argv[1], "slow"))
		usleep(2000);
	if (argc > 1)
		return 0;
	pthread_create(&t, 0, forks, 0);
	pthread_create(&t, 0, spawns, 0);
	pthread_create(&t, 0, vforks, 0);
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		pthread_create(&t, 0, nothing, 0);
		pthread_join(t, 0);
		usleep(100);
	}
}
