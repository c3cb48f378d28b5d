/* Where the median of measured values lies. */
#include <check.h>

#include "tests/vmm/suites.h"
#include "vmm/series.h"

/* Ranks of the two values that bound it, of so many: tables of the sign test. */
static const struct {
	unsigned count, low, high;
} bounds[] = {{6, 1, 6},   {8, 1, 8},	 {9, 2, 8},    {10, 2, 9},
	      {21, 6, 16}, {30, 10, 21}, {36, 12, 25}, {100, 40, 61}};

START_TEST(interval)
{
	struct series s = {0};
	double low, high;

	for (unsigned i = bounds[_i].count; i > 0; i--)
		series_add(&s, i);
	ck_assert(series_interval(&s, &low, &high));
	ck_assert_double_eq(low, bounds[_i].low);
	ck_assert_double_eq(high, bounds[_i].high);
}
END_TEST

/* Of five, all on one side of it are as likely as 1 in 16. */
START_TEST(too_few)
{
	struct series s = {0};
	double low, high;

	for (unsigned i = 0; i <= 5; i++) {
		ck_assert(!series_interval(&s, &low, &high));
		series_add(&s, i);
	}
	ck_assert(series_interval(&s, &low, &high));
}
END_TEST

Suite *series_suite(void)
{
	Suite *suite = suite_create("series");
	TCase *tc = tcase_create("series");

	tcase_add_loop_test(tc, interval, 0, sizeof(bounds) / sizeof(bounds[0]));
	tcase_add_test(tc, too_few);
	suite_add_tcase(suite, tc);
	return suite;
}
