// Waits in the way its first argument names for a signal or for a byte on standard input, and exits with a code that tells what ended
// the wait: 10 EINTR, 11 the byte. "pending" blocks all signals and has several pending, and
// "dispatched" has its system calls dispatched to a handler, if it wanted to.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static void handler(int sig) { (void)sig; }

static int ended(int n)
{
	return n < 0 && errno == EINTR ? 10 : n > 0 ? 11 : 12;
}

int main(int argc, char **argv)
{
	char c;
	const char *how = argv[1];
	struct sigaction action = { .sa_handler = handler };
	if (!strcmp(how, "read-restart"))
		action.sa_flags = SA_RESTART;
	sigaction(SIGUSR1, &action, 0);
	if (!strcmp(how, "pending")) {
		sigset_t all;
		sigfillset(&all);
		sigprocmask(SIG_BLOCK, &all, 0);
		kill(getpid(), SIGWINCH);
		raise(SIGURG);
		kill(getpid(), SIGCHLD);
		raise(SIGUSR1);
	}
	static char selector;
	if (!strcmp(how, "dispatched") && prctl(59, 1, 0, 0, &selector)) // PR_SET_SYSCALL_USER_DISPATCH
		return 1;
	printf("ready\n");
	fflush(stdout);
	if (!strncmp(how, "read", 4))
		return ended(read(0, &c, 1));
	if (!strcmp(how, "poll")) {
		struct pollfd p = { 0, POLLIN, 0 };
		return ended(poll(&p, 1, -1));
	}
	if (!strcmp(how, "nanosleep")) {
		struct timespec t = { 1000, 0 };
		return ended(nanosleep(&t, 0));
	}
	return ended(pause());
}
