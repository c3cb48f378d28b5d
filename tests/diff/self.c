/*
 * What a program asks and says of itself, in lines that any kernel says alike.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
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

/* To become what one is already. */
static void same_ids(void)
{
	unsigned uid = getuid(), gid = getgid();

	say("the same user", setuid(uid));
	say("the same group", setgid(gid));
	say("two of them", setreuid(uid, -1) || setregid(-1, gid));
	say("three of them", setresuid(uid, -1, uid) || setresgid(-1, gid, -1));
	say("none of them", setresuid(-1, -1, -1) || setreuid(-1, -1));
	say("nobody", setuid(-1));
	say("errno", errno);
	say("of no group", setgid(-1));
	say("errno", errno);
	say("for files", setfsuid(-1) == (int)uid && setfsgid(-1) == (int)gid);
	say("as before", getuid() == uid && geteuid() == uid && getgid() == gid);
}

/* --- sendfile --------------------------------------------------------------------------------- */

#define LENGTH 10000

static void say_ret(const char *what, long ret, int fd)
{
	printf("%s: %ld, %s; read up to %ld\n", what, ret, ret < 0 ? strerror(errno) : "well",
	       (long)lseek(fd, 0, SEEK_CUR));
}

static void fill(int fd)
{
	char bytes[LENGTH];

	for (int i = 0; i < LENGTH; i++)
		bytes[i] = (char)(i * 7 % 251);
	if (write(fd, bytes, LENGTH) != LENGTH)
		say("a write fails", errno);
	lseek(fd, 0, SEEK_SET);
}

static unsigned sum(int fd, long *length)
{
	unsigned char bytes[512];
	unsigned s = 0;
	ssize_t n;

	for (*length = 0; (n = read(fd, bytes, sizeof(bytes))) > 0; *length += n)
		for (ssize_t i = 0; i < n; i++)
			s = s * 31 + bytes[i];
	return s;
}

static void files(int in, int out)
{
	off_t at = 1;
	long length;

	fill(in);
	say_ret("all, and more", sendfile(out, in, NULL, 2 * LENGTH), in);
	say_ret("nothing left", sendfile(out, in, NULL, LENGTH), in);
	say_ret("from a place", sendfile(out, in, &at, 5000), in);
	say("up to", at);
	say_ret("none", sendfile(out, in, &at, 0), in);
	at = -1;
	say_ret("before its begin", sendfile(out, in, &at, 1), in);
	at = LENGTH + 5;
	say_ret("behind its end", sendfile(out, in, &at, 1), in);
	lseek(out, 0, SEEK_SET);
	printf("sum %x", sum(out, &length));
	printf(" of %ld\n", length);
}

static void through_pipe(int in, int out)
{
	int ends[2];
	off_t at = 0;
	long length;

	if (pipe(ends))
		return;
	lseek(in, 0, SEEK_SET);
	say_ret("to a pipe", sendfile(ends[1], in, NULL, LENGTH), in);
	say_ret("from a pipe", sendfile(out, ends[0], NULL, 1), in);
	say_ret("from a place in it", sendfile(out, ends[0], &at, 1), in);
	close(ends[1]);
	printf("sum %x", sum(ends[0], &length));
	printf(" of %ld\n", length);
	close(ends[0]);
}

static void refused(int in, int out)
{
	int appended = open("/tmp/self.out", O_WRONLY | O_APPEND), dir = open("/", O_RDONLY);

	say_ret("appended", sendfile(appended, in, NULL, 1), in);
	say_ret("a directory", sendfile(out, dir, NULL, 1), in);
	say_ret("only to be written", sendfile(out, appended, NULL, 1), in);
	say_ret("only to be read", sendfile(dir, in, NULL, 1), in);
	say_ret("closed", sendfile(77, in, NULL, 1), in);
	say_ret("of nothing", sendfile(out, 77, NULL, 1), in);
	close(appended);
	close(dir);
}

static void sends(void)
{
	int in = open("/tmp/self.in", O_RDWR | O_CREAT | O_TRUNC, 0600);
	int out = open("/tmp/self.out", O_RDWR | O_CREAT | O_TRUNC, 0600);

	files(in, out);
	through_pipe(in, out);
	refused(in, out);
	close(in);
	close(out);
	unlink("/tmp/self.in");
	unlink("/tmp/self.out");
}

int main(void)
{
	names();
	clocks();
	ids();
	same_ids();
	sends();
	return 0;
}
