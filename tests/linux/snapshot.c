/*
 * A stock Linux guest that is frozen, killed and brought back: its processes, open files and
 * connections go on, and its disk is whole, in the snapshot of what was restored, too. The
 * guest's part is jobs/snapshot.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/linux/suites.h"

#define PORT 9000

static void host(const char *command)
{
	int status = system(command);

	ck_assert_msg(status == 0, "%s: status %d", command, status);
}

/* A network of the test's own, with the tap interface that both of foal's lives open. */
static int listen_behind_tap(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	int fd;

	ck_assert_msg(unshare(CLONE_NEWNET | CLONE_NEWNS) == 0, "unshare: %s", strerror(errno));
	ck_assert_int_eq(setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1), 0);
	host("busybox ip link set lo up");
	host("busybox tunctl -t foal0 >/dev/null");
	host("busybox ip addr add 10.77.0.1/24 dev foal0");
	host("busybox ip link set foal0 up");
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	return fd;
}

/* The next bytes that the guest sends are @word and an end of line. */
static void hear(int fd, const char *word)
{
	char text[64] = "";
	size_t len = 0;

	while (!strchr(text, '\n')) {
		ssize_t n = recv(fd, text + len, sizeof(text) - 1 - len, 0);
		ck_assert_msg(n > 0, "the connection broke before \"%s\"", word);
		len += (size_t)n;
		text[len] = 0;
	}
	ck_assert_msg(strncmp(text, word, strlen(word)) == 0, "%s", text);
}

static void tell(int fd, const char *line)
{
	ck_assert_int_eq(send(fd, line, strlen(line), MSG_NOSIGNAL), (ssize_t)strlen(line));
}

static void command(const char *const *args, const char *words)
{
	struct run_how how = {.plain = true};
	struct run run;

	run_start(&run, &how, args);
	run_wait(&run);
	ck_assert_msg(run.status == 0 && strstr(run.out_text, words), "%d: %s%s", run.status,
		      run.out_text, run.err_text);
	printf("%s", run.out_text);
	fflush(stdout);
	run_free(&run);
}

/* The file system that both snapshots' layers make of the image; @sum of /kept in it. */
static void kept_sum(const char *image, const char *first, const char *second, char sum[SHA256_HEX])
{
	lay_over(image, first);
	lay_over(image, second);
	expect_fs_clean(image);
	sum_in_image(image, "/kept", sum);
}

START_TEST(goes_on)
{
	const char *image = copy_file(linux_path("root.img"), "image"), *first = scratch("first"),
		   *second = scratch("second");
	struct run_how how = {.plain = true};
	char disk[300], sum[SHA256_HEX];
	int listener = listen_behind_tap(), fd;
	struct run run;

	snprintf(disk, sizeof(disk), "%s,mode=cow", image);
	run_start(&run, &(struct run_how){0},
		  ARGS("--name", "linux", "--kernel", linux_path("vmlinuz"), "--initrd",
		       linux_path("initrd.gz"), "--memory", "256M", "--cpus", "2", "--time-limit",
		       GUEST_LIMIT, "--net", "tap=foal0", "--disk", disk, "--append",
		       "console=ttyS0 panic=-1 quiet job=snapshot"));
	fd = accept(listener, NULL, NULL);
	ck_assert_int_ge(fd, 0);
	hear(fd, "ready");
	command(ARGS("snapshot", "linux", first, "--compress", "zstd"), "the guest was paused for");
	kill(run.pid, SIGKILL);
	run_wait(&run);
	run_free(&run);
	command(ARGS("verify", first), "whole");

	run_start(&run, &how,
		  ARGS("restore", first, "--name", "linux", "--time-limit", GUEST_LIMIT, "--stats",
		       "off", "--identity", "keep"));
	tell(fd, "go\n");
	hear(fd, "rests");
	command(ARGS("snapshot", "linux", second, "--diff"), "more than");
	tell(fd, "end\n");
	run_wait(&run);
	ck_assert_msg(run.status == 0, "%d: %s%s", run.status, run.out_text, run.err_text);
	guest_said(&run, "both count");
	guest_said(&run, "sums agree");
	guest_said(&run, "unmounted");
	guest_said(&run, "log: clean");
	guest_said(&run, "job snapshot ended with 0");
	command(ARGS("verify", second), "whole");
	kept_sum(image, first, second, sum);
	ck_assert_msg(strncmp(guest_said(&run, "kept "), sum, SHA256_HEX - 1) == 0, "%s: %s", sum,
		      run.out_text);
	run_free(&run);
	close(fd);
	close(listener);
}
END_TEST

/* Copies of one guest draw other random numbers, and have another address. */
START_TEST(copies_differ)
{
	const char *dir = scratch("copied");
	struct run_how how = {.plain = true};
	struct run run, copies[2];

	close(listen_behind_tap());
	run_start(&run, &(struct run_how){0},
		  ARGS("--name", "linux", "--kernel", linux_path("vmlinuz"), "--initrd",
		       linux_path("initrd.gz"), "--memory", "256M", "--time-limit", GUEST_LIMIT,
		       "--net", "tap=foal0", "--append",
		       "console=ttyS0 panic=-1 quiet job=random"));
	run_until(&run, "guest: listening");
	command(ARGS("snapshot", "linux", dir), "the guest was paused for");
	kill(run.pid, SIGKILL);
	run_wait(&run);
	run_free(&run);
	for (int i = 0; i < 2; i++) {
		run_start(&copies[i], &how,
			  ARGS("restore", dir, "--name", i ? "b" : "a", "--time-limit", GUEST_LIMIT,
			       "--stats", "off", "--prefetch", "off"));
		run_type(&copies[i], "\n", 1);
		run_until(&copies[i], "guest: answered");
		kill(copies[i].pid, SIGTERM);
		run_wait(&copies[i]);
	}
	ck_assert(strncmp(guest_said(&copies[0], "drawn "), guest_said(&copies[1], "drawn "), 32));
	ck_assert(
	    strncmp(guest_said(&copies[0], "address "), guest_said(&copies[1], "address "), 17));
	run_free(&copies[0]);
	run_free(&copies[1]);
}
END_TEST

Suite *snapshot_suite(void)
{
	Suite *suite = suite_create("snapshot");
	TCase *tc = tcase_create("snapshot");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_test(tc, goes_on);
	suite_add_tcase(suite, tc);
	return suite;
}

Suite *copies_suite(void)
{
	Suite *suite = suite_create("copies");
	TCase *tc = tcase_create("copies");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_test(tc, copies_differ);
	suite_add_tcase(suite, tc);
	return suite;
}
