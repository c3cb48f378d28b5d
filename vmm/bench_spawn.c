/* foal once more, for a sample. */
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "vmm/bench.h"

/* In the child, which goes with its parent: that one may be killed, the child be stopped. */
static void become(char *const argv[], int out, pid_t parent)
{
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(FOAL_EXIT_INTERNAL);
	int in = open("/dev/null", O_RDONLY);
	if (in < 0 || dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
		_exit(FOAL_EXIT_HOST);
	close(in);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv("/proc/self/exe", argv);
	_exit(FOAL_EXIT_HOST);
}

pid_t bench_spawn(char *const argv[], int *out)
{
	pid_t parent = getpid(), pid;
	int fds[2];

	*out = -1;
	if (pipe2(fds, O_CLOEXEC))
		return -1;
	pid = fork();
	if (pid == 0)
		become(argv, fds[1], parent);
	close(fds[1]);
	if (pid < 0)
		close(fds[0]);
	else
		*out = fds[0];
	return pid;
}
