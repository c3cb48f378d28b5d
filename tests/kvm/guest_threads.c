/* POSIX threads, as musl makes them: what a program of them says on Linux it says in the guest. */
#include "tests/kvm/guest_same.h"
#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

START_TEST(threads)
{
	static const char *const cpus[] = {"1", "2"};

	same_on_both("threads", "", "", cpus[_i]);
}
END_TEST

Suite *guest_threads_suite(void)
{
	Suite *suite = suite_create("guest_threads");
	TCase *tc = tcase_create("guest_threads");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_loop_test(tc, threads, 0, 2);
	suite_add_tcase(suite, tc);
	return suite;
}
