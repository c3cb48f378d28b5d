/*
 * run COMMAND [ARG ...] [-- COMMAND [ARG ...]] ...: runs one after the other, and
 * says how each ended. The exit status is the number of those that did not end with 0.
 */
#include "guest/user/lib/user.h"

static int run(char **argv)
{
	char *const no_env[] = {NULL};
	int status = 0;
	int pid = sys_fork();

	if (!pid) {
		int err = sys_execve(argv[0], argv, no_env);

		print("run: %s: error %d\n", argv[0], err);
		sys_exit(err == -ENOENT ? 127 : 126);
	}
	if (pid < 0 || sys_wait4(pid, &status) != pid) {
		print("run: %s: cannot run it (%d)\n", argv[0], pid);
		return 1;
	}
	if (status & 0x7f)
		print("run: %s: killed by signal %d\n", argv[0], status & 0x7f);
	else
		print("run: %s: status %d\n", argv[0], status >> 8 & 0xff);
	return status != 0;
}

int main(int argc, char **argv)
{
	int failed = 0;
	int first = 1;

	for (int i = 1; i <= argc; i++) {
		if (i < argc && strcmp(argv[i], "--") != 0)
			continue;
		argv[i] = NULL; /* argv[argc] is NULL already */
		if (i > first)
			failed += run(argv + first);
		first = i + 1;
	}
	return failed;
}
