/*
 * Programs that mean harm: what the guest kernel says to bad arguments, to programs and to signal
 * frames that lie is what this machine's says to the same program; tasks have a limit.
 */
#include <string.h>
#include <sys/stat.h>

#include "tests/kvm/guest_same.h"
#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

START_TEST(bad_arguments)
{
	const char *dir = scratch("host");

	ck_assert_int_eq(mkdir(dir, 0755), 0);
	same_on_both("hostile", "/tmp", dir, "1");
}
END_TEST

START_TEST(programs_that_lie)
{
	const char *dir = scratch("host");

	ck_assert_int_eq(mkdir(dir, 0755), 0);
	same_on_both("liars", "/tmp", dir, "1");
}
END_TEST

START_TEST(frames_that_lie)
{
	same_on_both("frames", "", "", "1");
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
	tcase_add_test(tc, programs_that_lie);
	tcase_add_test(tc, frames_that_lie);
	tcase_add_test(tc, tasks_have_a_limit);
	suite_add_tcase(suite, tc);
	return suite;
}
