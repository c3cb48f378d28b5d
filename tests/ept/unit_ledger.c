/* The ledger: counters and the latency histogram. */
#include "ept/stats.h"
#include "tests/ept/unit_suites.h"
#include "tests/ept/util.h"

START_TEST(empty_histogram)
{
	struct ept_hist h = {0};

	ck_assert_uint_eq(ept_hist_percentile(&h, 50), 0);
	ck_assert_uint_eq(ept_hist_percentile(&h, 100), 0);
}
END_TEST

START_TEST(percentiles_of_a_uniform_sample)
{
	struct ept_hist h = {0};

	for (uint64_t ns = 1; ns <= 100000; ns++)
		ept_hist_add(&h, ns);
	ck_assert_uint_eq(h.count, 100000);
	ck_assert_uint_eq(h.max, 100000);
	for (unsigned percent = 1; percent <= 100; percent++) {
		uint64_t exact = percent * 1000, got = ept_hist_percentile(&h, percent);

		ck_assert_uint_ge(got, exact);
		ck_assert_uint_le(got, exact + exact / 16 + 1); /* within a bucket */
	}
	ck_assert_uint_eq(ept_hist_percentile(&h, 0), 1);
}
END_TEST

/* Powers of two cut it exactly, and the sum is the samples'. */
START_TEST(below_and_sum)
{
	struct ept_hist h = {0};

	for (uint64_t ns = 0; ns < 3000; ns++)
		ept_hist_add(&h, ns);
	for (unsigned shift = 0; shift <= 35; shift++)
		ck_assert_uint_eq(ept_hist_below(&h, shift),
				  1UL << shift < 3000 ? 1UL << shift : 3000);
	ck_assert_uint_eq(h.sum, 3000UL * 2999 / 2);
}
END_TEST

START_TEST(extreme_values)
{
	static const uint64_t values[] = {0, 1, 15, 16, 31, 32, 1UL << 34, UINT64_MAX};

	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
		struct ept_hist h = {0};

		ept_hist_add(&h, values[i]);
		ck_assert_uint_eq(h.max, values[i]);
		if (values[i] < UINT64_MAX)
			ck_assert_uint_eq(ept_hist_percentile(&h, 99), values[i]);
	}
}
END_TEST

START_TEST(names)
{
	for (int c = 0; c < EPT_NR_CASES; c++) {
		ck_assert_ptr_nonnull(ept_case_name((enum ept_case)c));
		ck_assert_ptr_nonnull(ept_case_what((enum ept_case)c));
		for (int d = 0; d < c; d++)
			ck_assert_str_ne(ept_case_name((enum ept_case)c),
					 ept_case_name((enum ept_case)d));
	}
	ck_assert_str_eq(ept_case_name(EPT_NR_CASES), "?");
	ck_assert_str_eq(ept_origin_name(EPT_ORIGIN_DEVICE), "device");
	ck_assert_str_eq(ept_host_feature_name(16), "MOVE");
	ck_assert_ptr_null(ept_host_feature_name(63));
}
END_TEST

START_TEST(only_the_first_failure_is_kept)
{
	struct vm vm = vm_anon(PAGE);
	uint64_t n;

	ck_assert_ptr_null(ept_space_failure(vm.space));
	ck_assert_int_lt(read(ept_space_failure_fd(vm.space), &n, sizeof(n)), 0);
	ept_space_fail(vm.space, EPT_CASE_IO_ERROR, GPA(1), -EIO, "first %d", 1);
	ept_space_fail(vm.space, EPT_CASE_NO_MEMORY, GPA(2), -ENOMEM, "second %d", 2);
	ck_assert_str_eq(ept_space_failure(vm.space)->message, "first 1");
	ck_assert_int_eq(ept_space_failure(vm.space)->error, -EIO);
	ck_assert_int_eq(read(ept_space_failure_fd(vm.space), &n, sizeof(n)), sizeof(n));
	ck_assert_uint_eq(n, 1);
	vm_destroy(&vm);
}
END_TEST

Suite *suite_ledger(void)
{
	Suite *suite = suite_create("ept: ledger");
	TCase *tc = tcase_create("ledger");

	tcase_add_test(tc, empty_histogram);
	tcase_add_test(tc, percentiles_of_a_uniform_sample);
	tcase_add_test(tc, below_and_sum);
	tcase_add_test(tc, extreme_values);
	tcase_add_test(tc, names);
	tcase_add_test(tc, only_the_first_failure_is_kept);
	suite_add_tcase(suite, tc);
	return suite;
}
