/* POSIX threads, as musl makes them: what a program of them says on Linux it says in the guest. */
#include <stdio.h>

#include "tests/kvm/guest_same.h"
#include "tests/kvm/runner.h"
#include "tests/kvm/snapshot_rig.h"
#include "tests/kvm/suites.h"

START_TEST(threads)
{
	static const char *const cpus[] = {"1", "2"};

	same_on_both("threads", "", "", cpus[_i]);
}
END_TEST

/* One mapping of eight threads, taken away and made read-only under them. */
START_TEST(touches)
{
	char count[16];

	snprintf(count, sizeof(count), "%u", times("FOAL_TOUCHES", 2000));
	same_on_both("touches", count, count, "2");
}
END_TEST

Suite *guest_threads_suite(void)
{
	Suite *suite = suite_create("guest_threads");
	TCase *tc = tcase_create("guest_threads");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_loop_test(tc, threads, 0, 2);
	tcase_add_test(tc, touches);
	suite_add_tcase(suite, tc);
	return suite;
}
