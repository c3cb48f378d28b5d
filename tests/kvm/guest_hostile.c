/*
 * Programs that mean harm: what the guest kernel says to bad arguments and to signal frames that
 * lie is what this machine's says to the same program; tasks have a limit.
 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

/* The programs that musl-gcc built, where foal's build is. */
static const char *diff_program(const char *name)
{
	static char path[64];

	snprintf(path, sizeof(path), "build/tests/diff/%s", name);
	if (access(path, X_OK))
		skip("guest_hostile: no musl-gcc here when the tests were built");
	return path;
}

static const char *make_image(const char *name)
{
	const char *root = scratch("root"), *image = scratch("hostile.img");
	char command[2048];

	if (run_tool(NULL, ARGS("e2fsck", "-V")))
		skip("guest_hostile: no e2fsprogs here");
	snprintf(command, sizeof(command),
		 "mkdir -p %s/bin %s/tmp && cp build/guest/user/run %s %s/bin && "
		 "PATH=$PATH:/usr/sbin:/sbin mke2fs -q -F -t ext2 -b 4096 -d %s %s 16M >/dev/null",
		 root, root, diff_program(name), root, root, image);
	ck_assert_int_eq(system(command), 0);
	return image;
}

static char *said_on_host(const char *name, const char *argument)
{
	const char *out = scratch("host.txt");
	char command[2048];
	size_t len;

	snprintf(command, sizeof(command), "%s %s >%s </dev/null", diff_program(name), argument,
		 out);
	ck_assert_int_eq(system(command), 0);
	return read_file(out, &len);
}

/* Lines are compared one by one: what differs is said, and not all of it. */
static void expect_same_lines(char *guest, char *host)
{
	char *g_rest, *h_rest;
	char *g = strtok_r(guest, "\n", &g_rest), *h = strtok_r(host, "\n", &h_rest);

	while (g && h) {
		ck_assert_msg(!strcmp(g, h), "host says \"%s\", the guest \"%s\"", h, g);
		g = strtok_r(NULL, "\n", &g_rest);
		h = strtok_r(NULL, "\n", &h_rest);
	}
	ck_assert_msg(!g && !h, "host ends with \"%s\", the guest with \"%s\"", h ? h : "",
		      g ? g : "");
}

/* What the kernel says of programs that it ends, and run of those that ended. */
static void drop_kernel_lines(char *text, const char *name)
{
	char mark[64], last[64];
	char *to = text;

	snprintf(mark, sizeof(mark), "%s[", name);
	snprintf(last, sizeof(last), "run: /bin/%s: ", name);
	for (char *line = text, *next; *line; line = next) {
		next = strchrnul(line, '\n');
		next += *next == '\n';
		if (!strncmp(line, mark, strlen(mark)) || !strncmp(line, last, strlen(last)))
			continue;
		memmove(to, line, (size_t)(next - line));
		to += next - line;
	}
	*to = '\0';
}

static void same_on_both(const char *name, const char *in_guest, const char *on_host)
{
	const char *image = make_image(name);
	char disk[600], append[256];
	struct run run;
	char *host = said_on_host(name, on_host);

	snprintf(disk, sizeof(disk), "%s,mode=shared", image);
	snprintf(append, sizeof(append), "quiet init=/bin/run -- /bin/%s %s", name, in_guest);
	run_start(&run, NULL,
		  ARGS("--kernel", image_path("kernel.elf"), "--disk", disk, "--memory", "64M",
		       "--append", append, "--time-limit", GUEST_LIMIT));
	run_wait(&run);
	ck_assert_msg(run.status == 0, "status %d\n%s", run.status, run.err_text);
	ck_assert_ptr_nonnull(strstr(run.out_text, ", 0 not given back"));
	guest_lines(run.out_text);
	drop_kernel_lines(run.out_text, name);
	expect_same_lines(run.out_text, host);
	expect_fs_clean(image);
	free(host);
	run_free(&run);
}

START_TEST(bad_arguments)
{
	const char *dir = scratch("host");

	ck_assert_int_eq(mkdir(dir, 0755), 0);
	same_on_both("hostile", "/tmp", dir);
}
END_TEST

START_TEST(frames_that_lie)
{
	same_on_both("frames", "", "");
}
END_TEST

/* With 16 MiB there can be some 120 tasks. The call that is not known is told of once. */
START_TEST(tasks_have_a_limit)
{
	struct run run;
	char *told;

	run_start(&run, NULL,
		  ARGS("--kernel", image_path("kernel.elf"), "--disk", image_path("disk.img"),
		       "--memory", "16M", "--append", "init=/bin/forks", "--time-limit",
		       GUEST_LIMIT));
	run_wait(&run);
	ck_assert_msg(run.status == 0, "status %d\n%s\n%s", run.status, run.out_text, run.err_text);
	ck_assert_ptr_nonnull(strstr(run.out_text, ", then -11, then one more"));
	ck_assert_ptr_nonnull(strstr(run.out_text, ", 0 not given back"));
	told = strstr(run.out_text, "system call 511 is not known here");
	ck_assert_ptr_nonnull(told);
	ck_assert_ptr_null(strstr(told + 1, "system call 511"));
	run_free(&run);
}
END_TEST

Suite *guest_hostile_suite(void)
{
	Suite *suite = suite_create("guest_hostile");
	TCase *tc = tcase_create("guest_hostile");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_test(tc, bad_arguments);
	tcase_add_test(tc, frames_that_lie);
	tcase_add_test(tc, tasks_have_a_limit);
	suite_add_tcase(suite, tc);
	return suite;
}
