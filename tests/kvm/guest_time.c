/* Timers, queued signals, and what a program asks of itself: said on Linux and in the guest alike.
 */
#include "tests/kvm/guest_same.h"
#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

START_TEST(timers)
{
	static const char *const cpus[] = {"1", "2"};

	same_on_both("timers", "", "", cpus[_i]);
}
END_TEST

START_TEST(cputimers)
{
	static const char *const cpus[] = {"1", "2"};

	same_on_both("cputimers", "", "", cpus[_i]);
}
END_TEST

START_TEST(events)
{
	static const char *const cpus[] = {"1", "2"};

	same_on_both("events", "", "", cpus[_i]);
}
END_TEST

START_TEST(posix_timers)
{
	static const char *const cpus[] = {"1", "2"};

	same_on_both("posix_timers", "", "", cpus[_i]);
}
END_TEST

START_TEST(queued)
{
	static const char *const cpus[] = {"1", "2"};

	same_on_both("queued", "", "", cpus[_i]);
}
END_TEST

START_TEST(self)
{
	same_on_both("self", "", "", "1");
}
END_TEST

Suite *guest_time_suite(void)
{
	Suite *suite = suite_create("guest_time");
	TCase *tc = tcase_create("guest_time");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_loop_test(tc, timers, 0, 2);
	tcase_add_loop_test(tc, cputimers, 0, 2);
	tcase_add_loop_test(tc, events, 0, 2);
	tcase_add_loop_test(tc, posix_timers, 0, 2);
	tcase_add_loop_test(tc, queued, 0, 2);
	tcase_add_test(tc, self);
	suite_add_tcase(suite, tc);
	return suite;
}
