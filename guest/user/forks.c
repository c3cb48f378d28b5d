/*
 * forks: children until the kernel refuses one, which all wait for ever; then they are ended and
 * waited for, and there can be one again. Ends with 0 if that is how it went.
 */
#include "guest/user/lib/user.h"

enum { SYS_PAUSE = 34, SYS_KILL = 62, SYS_UNKNOWN = 511, SYS_KILLED = 9, EAGAIN = 11, ENOSYS = 38 };
enum { MOST = 4096 };

static int children[MOST];

static int start(void)
{
	int pid = sys_fork();

	if (!pid)
		for (;;)
			syscall3(SYS_PAUSE, 0, 0, 0);
	return pid;
}

static bool end(int pid)
{
	int status;

	return !syscall3(SYS_KILL, pid, SYS_KILLED, 0) && sys_wait4(pid, &status) == pid &&
	       status == SYS_KILLED;
}

int main(int argc, char **argv)
{
	int n = 0, refused = 0, again;
	bool ended = true;

	(void)argc, (void)argv;

	while (n < MOST && (refused = start()) > 0)
		children[n++] = refused;
	for (int i = 0; i < n; i++)
		ended &= end(children[i]);
	again = start();
	ended &= again > 0 && end(again);
	for (int i = 0; i < 3; i++)
		ended &= syscall3(SYS_UNKNOWN, 0, 0, 0) == -ENOSYS;
	print("forks: %d, then %d, then %s\n", n, refused, ended ? "one more" : "trouble");
	return n < 20 || refused != -EAGAIN || !ended;
}
