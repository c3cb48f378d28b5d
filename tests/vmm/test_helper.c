/* Helpers: what they get of foal, and what is said of those that end. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/vmm/suites.h"
#include "vmm/helper.h"

#define SECONDS 60

static struct helpers helpers;
static struct foal_error err;

static void set_up(void)
{
	helpers = (struct helpers){.count = 0};
	err = (struct foal_error){.status = 0};
}

/* A shell that does @script, its socket. */
static int start(const char *script)
{
	const char *const argv[] = {"sh", "-c", script, NULL};
	int fd = -1, r = helper_start(&helpers, argv, "--test", "something is gone", &fd, &err);

	ck_assert_msg(r == 0, "%s", err.text);
	return fd;
}

/* All that it says until it ends, at most @max - 1 bytes. */
static void hear(int fd, char *text, size_t max)
{
	size_t len = 0;
	ssize_t n = 1;

	while (n > 0 && len < max - 1) {
		struct pollfd pfd = {.fd = fd, .events = POLLIN};

		ck_assert_int_eq(poll(&pfd, 1, SECONDS * 1000), 1);
		n = read(fd, text + len, max - 1 - len);
		len += n > 0 ? (size_t)n : 0;
	}
	text[len] = 0;
}

/* Wait for the end of helper 0, as run.c does; what was said on standard error. */
static void watch(char *text, size_t max)
{
	struct pollfd fds[MAX_HELPERS];
	int said[2], err_fd = dup(STDERR_FILENO);

	helpers_poll(&helpers, fds);
	ck_assert_int_eq(poll(fds, helpers.count, SECONDS * 1000), 1);
	ck_assert_int_eq(pipe(said), 0);
	dup2(said[1], STDERR_FILENO);
	helpers_look(&helpers, fds, "vm");
	dup2(err_fd, STDERR_FILENO);
	close(err_fd);
	close(said[1]);
	hear(said[0], text, max);
	close(said[0]);
}

START_TEST(talks_over_its_socket)
{
	int fd = start("cat <&3 >&3");
	char text[16];

	ck_assert_int_eq(write(fd, "hello", 5), 5);
	shutdown(fd, SHUT_WR);
	hear(fd, text, sizeof(text));
	ck_assert_str_eq(text, "hello");
	close(fd);
	helpers_stop(&helpers);
	/* Reaped. */
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
}
END_TEST

START_TEST(gets_nothing_else)
{
	/* Not closed on exec, as a library's may be. */
	int stray = dup2(STDIN_FILENO, 40), fd;
	char text[256];

	fd = start("ls /proc/self/fd >&3");
	hear(fd, text, sizeof(text));
	/* 4 is the directory that ls reads. */
	ck_assert_str_eq(text, "0\n1\n2\n3\n4\n");
	close(fd);
	close(stray);
	helpers_stop(&helpers);
}
END_TEST

/* The set after @name in @text, but for the two that are libc's own: no program can change those.
 */
static unsigned long signals_in(const char *text, const char *name)
{
	const char *set = strstr(text, name);

	ck_assert_ptr_nonnull(set);
	return strtoul(set + strlen(name), NULL, 16) & ~(3UL << 31);
}

START_TEST(has_plain_signals_and_a_session)
{
	char text[256], *end;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	fd = start("grep -E '^Sig(Ign|Blk)' /proc/self/status >&3;"
		   "cut -d' ' -f6 /proc/self/stat >&3; echo $$ >&3");
	hear(fd, text, sizeof(text));
	ck_assert_msg(!signals_in(text, "SigIgn:") && !signals_in(text, "SigBlk:"), "%s", text);
	end = strrchr(text, '\t');
	end = strchr(end, '\n') + 1;
	/* Its session is itself. */
	ck_assert_int_eq(strtol(end, &end, 10), strtol(end + 1, NULL, 10));
	close(fd);
	helpers_stop(&helpers);
}
END_TEST

START_TEST(is_not_there)
{
	const char *const argv[] = {"no-such-program", NULL};
	int fd = -1;

	/* A directory there that its user may not enter would be another error. */
	ck_assert_int_eq(setenv("PATH", "/usr/bin:/bin", 1), 0);
	ck_assert_int_eq(helper_start(&helpers, argv, "--test", "", &fd, &err), -ENOENT);
	ck_assert_int_eq(err.status, FOAL_EXIT_HOST);
	ck_assert_str_eq(err.text, "--test needs the program no-such-program: No such file or "
				   "directory; install Debian's package of that name");
	ck_assert_int_eq(helpers.count, 0);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
}
END_TEST

START_TEST(ends_early)
{
	static const struct {
		const char *script, *said;
	} ends[] = {
	    {"exit 3", "foal: vm: --test: its helper ended (status 3): something is gone\n"},
	    {"kill -9 $$", "foal: vm: --test: its helper ended (signal 9): something is gone\n"},
	};
	int fd = start(ends[_i].script);
	struct pollfd fds[MAX_HELPERS];
	char text[256];

	watch(text, sizeof(text));
	ck_assert_str_eq(text, ends[_i].said);
	/* Said once; nothing is left to poll. */
	helpers_poll(&helpers, fds);
	ck_assert_int_eq(poll(fds, helpers.count, 0), 0);
	close(fd);
	helpers_stop(&helpers);
}
END_TEST

/* One that does not end when its socket is closed holds nobody up for long. */
START_TEST(stays)
{
	int fd = start("echo $$ >&3; exec 3>&-; exec sleep 100");
	char text[16];

	hear(fd, text, sizeof(text));
	close(fd);
	helpers_stop(&helpers);
	kill((pid_t)atoi(text), SIGKILL);
}
END_TEST

START_TEST(dies_with_foal)
{
	char text[16] = "";
	int pair[2];

	ck_assert_int_eq(pipe(pair), 0);
	pid_t foal = fork();
	if (foal == 0) {
		int fd = start("echo $$ >&3; exec sleep 100");

		ck_assert_int_gt(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, -1), 0);
		ssize_t n = read(fd, text, sizeof(text));
		if (write(pair[1], text, (size_t)n) == n)
			kill(getpid(), SIGKILL);
		_exit(1);
	}
	close(pair[1]);
	ck_assert_int_eq(waitpid(foal, NULL, 0), foal);
	hear(pair[0], text, sizeof(text));
	pid_t helper = (pid_t)atoi(text);
	ck_assert_int_gt(helper, 1);
	/* A zombie of init's at most. */
	char path[32], state = 0;
	snprintf(path, sizeof(path), "/proc/%d/stat", helper);
	for (unsigned i = 0; i < SECONDS * 100; i++, usleep(10000)) {
		FILE *stat = fopen(path, "re");
		if (!stat || fscanf(stat, "%*d %*s %c", &state) != 1)
			state = 'X';
		if (stat)
			fclose(stat);
		if (state == 'Z' || state == 'X')
			break;
	}
	ck_assert_msg(state == 'Z' || state == 'X', "it is still there, %c", state);
	close(pair[0]);
}
END_TEST

Suite *helper_suite(void)
{
	Suite *suite = suite_create("helpers");
	TCase *tc = tcase_create("helpers");

	tcase_set_timeout(tc, 3 * SECONDS);
	tcase_add_checked_fixture(tc, set_up, NULL);
	tcase_add_test(tc, talks_over_its_socket);
	tcase_add_test(tc, gets_nothing_else);
	tcase_add_test(tc, has_plain_signals_and_a_session);
	tcase_add_test(tc, is_not_there);
	tcase_add_loop_test(tc, ends_early, 0, 2);
	tcase_add_test(tc, stays);
	tcase_add_test(tc, dies_with_foal);
	suite_add_tcase(suite, tc);
	return suite;
}
