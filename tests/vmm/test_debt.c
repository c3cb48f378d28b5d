/* What is told of KVM's count: when which part of its faults was fixed. */
#include <check.h>

#include "tests/vmm/suites.h"
#include "vmm/debt.h"

static struct vm_debt two_looks(void)
{
	return (struct vm_debt){.look = {{.ns = 100, .fixed = 40}, {.ns = 300, .fixed = 60}},
				.count = 2};
}

START_TEST(first_look_that_saw_it)
{
	const struct vm_debt debt = two_looks();

	ck_assert_uint_eq(debt_by(&debt, 80, 500, 50).ns, 100);
	ck_assert_uint_eq(debt_by(&debt, 80, 500, 75).ns, 300);
	ck_assert_uint_eq(debt_by(&debt, 80, 500, 75).fixed, 60);
	ck_assert_uint_eq(debt_by(&debt, 80, 500, 99).ns, 500);
	ck_assert_uint_eq(debt_by(&debt, 80, 500, 99).fixed, 80);
}
END_TEST

/* Who asks may have looked at the clock before the last look came. */
START_TEST(never_before_a_look)
{
	const struct vm_debt debt = two_looks();

	ck_assert_uint_eq(debt_by(&debt, 80, 200, 75).ns, 300);
	ck_assert_uint_eq(debt_by(&debt, 80, 200, 99).ns, 300);
}
END_TEST

Suite *debt_suite(void)
{
	Suite *suite = suite_create("debt");
	TCase *tc = tcase_create("debt");

	tcase_add_test(tc, first_look_that_saw_it);
	tcase_add_test(tc, never_before_a_look);
	suite_add_tcase(suite, tc);
	return suite;
}
