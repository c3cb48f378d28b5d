/*
 * --net as far as it goes without a guest that has a driver: the helper that a
 * run starts, how it is called, and what becomes of the run when it dies. It is
 * a shell script of the tests' that stands for passt.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"
#include "vmm/error.h"

/*
 * From now on passt is a program that says how it was called and its id, and
 * stays. Nothing of it may wait to write to the pipe that foal's messages go to:
 * sendfile() into a pipe, which a `cat` may use, locks it meanwhile.
 */
static void stand_in(void)
{
	static const char script[] = "#!/bin/sh\necho \"called with $*\" >&2\necho \"passt is $$\" "
				     ">&2\nexec cat <&3 >/dev/null\n";
	const char *path = getenv("PATH");
	char dirs[1024];

	write_file(scratch("passt"), script, sizeof(script) - 1);
	ck_assert_int_eq(chmod(scratch("passt"), 0755), 0);
	snprintf(dirs, sizeof(dirs), "%s:%s", scratch("."), path ? path : "/usr/bin:/bin");
	ck_assert_int_eq(setenv("PATH", dirs, 1), 0);
}

static pid_t helper_of(const struct run *run)
{
	const char *said = strstr(run->err_text, "passt is ");

	ck_assert_ptr_nonnull(said);
	return (pid_t)atoi(said + strlen("passt is "));
}

/* Or a zombie, if the host's init is in no hurry. */
static bool is_gone(pid_t pid)
{
	char path[32], state = 'X';
	FILE *stat;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	stat = fopen(path, "re");
	if (!stat)
		return true;
	if (fscanf(stat, "%*d %*s %c", &state) != 1)
		state = 'X';
	fclose(stat);
	return state == 'Z' || state == 'X';
}

START_TEST(helper_dies)
{
	struct run run;

	stand_in();
	run_start(&run, NULL,
		  ARGS("--kernel", guest_path("echo.elf"), "--name", "net", "--net",
		       "user,forward=2222:22"));
	run_until_error(&run, "passt is ");
	run_until_error(&run, "\n");
	ck_assert_ptr_nonnull(strstr(run.err_text, " --fd 3"));
	ck_assert_ptr_nonnull(strstr(run.err_text, " --tcp-ports 127.0.0.1/2222:22\n"));
	run_until(&run, "ready\n");
	ck_assert_int_eq(kill(helper_of(&run), SIGKILL), 0);
	run_until_error(&run, "foal: net: --net user: its helper ended (signal 9): "
			      "the guest's network is gone\n");
	/* The guest goes on, and ends as it likes. */
	run_type(&run, "aq", 2);
	run_wait(&run);
	ck_assert_int_eq(run.status, 7);
	ck_assert_uint_eq(foal_lines(&run), 1);
	run_free(&run);
}
END_TEST

/* It goes with foal: at an end in order, and when foal is killed. */
START_TEST(helper_ends_with_foal)
{
	static const int signals[] = {SIGTERM, SIGKILL};
	struct run run;
	pid_t helper;

	stand_in();
	run_start(&run, NULL, ARGS("--kernel", guest_path("echo.elf"), "--net", "user"));
	run_until_error(&run, "passt is ");
	run_until_error(&run, "\n");
	run_until(&run, "ready\n");
	helper = helper_of(&run);
	ck_assert(!is_gone(helper));
	kill(run.pid, signals[_i]);
	run_wait(&run);
	while (!is_gone(helper))
		usleep(10000);
	run_free(&run);
}
END_TEST

START_TEST(helper_is_not_there)
{

	ck_assert_int_eq(setenv("PATH", scratch("no-such-folder"), 1), 0);
	expect_refusal(ARGS("--kernel", guest_path("exit.elf"), "--net", "user"), FOAL_EXIT_HOST,
		       "--net user needs the program passt");
}
END_TEST

Suite *network_suite(void)
{
	Suite *suite = suite_create("network");
	TCase *tc = tcase_create("network");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_test(tc, helper_dies);
	tcase_add_loop_test(tc, helper_ends_with_foal, 0, 2);
	tcase_add_test(tc, helper_is_not_there);
	suite_add_tcase(suite, tc);
	return suite;
}
