// A tree: a child with a child of its own, a zombie that exited with 7, one killed by SIGTERM, and a stopped child.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void forever(void)
{
	for (;;)
		pause();
}

int main(void)
{
	int to_parent[2];
	char c;
	siginfo_t info;

	if (pipe(to_parent))
		return 1;
	if (!fork()) {
		if (!fork()) {
			if (write(to_parent[1], "x", 1) != 1)
				return 1;
			forever();
		}
		forever();
	}
	pid_t exits = fork();
	if (!exits)
		_exit(7);
	pid_t killed = fork();
	if (!killed)
		forever();
	pid_t stopped = fork();
	if (!stopped) {
		raise(SIGSTOP);
		forever();
	}
	kill(killed, SIGTERM);
	waitid(P_PID, exits, &info, WEXITED | WNOWAIT);
	waitid(P_PID, killed, &info, WEXITED | WNOWAIT);
	waitid(P_PID, stopped, &info, WSTOPPED | WNOWAIT);
	if (read(to_parent[0], &c, 1) != 1)
		return 1;
	printf("ready\n");
	fflush(stdout);
	forever();
}
