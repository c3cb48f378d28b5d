/*
 * What a program asks and says of itself, in lines that any kernel says alike.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/times.h>
#include <time.h>
#include <unistd.h>

static void say(const char *what, long value)
{
	printf("%s: %ld\n", what, value);
}

static void show_name(const char *what)
{
	char name[16], comm[32] = "";
	FILE *f = fopen("/proc/self/comm", "r");

	memset(name, '#', sizeof(name));
	say(what, prctl(PR_GET_NAME, name));
	if (!f || !fgets(comm, sizeof(comm), f))
		strcpy(comm, "nothing\n");
	if (f)
		fclose(f);
	printf("  %.16s, behind it %d, and %s", name, name[15], comm);
}

static void names(void)
{
	show_name("name");
	say("a name", prctl(PR_SET_NAME, "short\0behind it"));
	show_name("short name");
	say("a long name", prctl(PR_SET_NAME, "123456789abcdefghij"));
	show_name("long name");
	say("no name", prctl(PR_SET_NAME, ""));
	show_name("empty name");
	say("no such option", prctl(-1, 0L));
	say("errno", errno);
}

static void clocks(void)
{
	static const clockid_t ids[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, 10, 12};
	struct timespec res;
	struct tms tms;

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		int err = clock_getres(ids[i], &res);

		printf("clock %d: %d", ids[i], err);
		if (!err)
			printf(", %ld %ld", (long)res.tv_sec, res.tv_nsec);
		printf("\n");
	}
	say("ticks", times(&tms) >= 0);
	say("CPU", sched_getcpu() >= 0);
}

static void ids(void)
{
	unsigned real = 1, effective = 1, saved = 1;

	say("users", getresuid(&real, &effective, &saved));
	say("all alike", real == getuid() && effective == geteuid() && saved == effective);
	say("groups", getresgid(&real, &effective, &saved));
	say("all alike", real == getgid() && effective == getegid() && saved == effective);
	say("room for less than none", getgroups(-1, NULL));
	say("errno", errno);
}

int main(void)
{
	names();
	clocks();
	ids();
	return 0;
}
