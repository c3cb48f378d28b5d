/* What KVM tells of faults is told apart, and where it told nothing that is said. */
#include <check.h>
#include <stdlib.h>

#include "tests/vmm/suites.h"
#include "vmm/kvm_sums.h"

#define SIZE   0x10000ULL
#define KERNEL 0xffffffff81000000ULL /* its RIPs are more than JSON has integers for */

static struct trace_area ram = {.name = "ram", .file = "", .gpa = 0, .size = SIZE};
static const struct trace_meta meta = {.areas = &ram, .nr_areas = 1};

static const struct {
	uint64_t gpa;
	bool handled, again;
	enum kvm_sum sum;
} faults[] = {
    {0, true, false, KVM_SUM_HANDLER},		 {0, true, true, KVM_SUM_HANDLER},
    {SIZE - 1, false, false, KVM_SUM_HOST},	 {SIZE - 1, false, true, KVM_SUM_AGAIN},
    {SIZE, false, false, KVM_SUM_OUTSIDE},	 {SIZE, true, true, KVM_SUM_OUTSIDE},
    {UINT64_MAX, false, false, KVM_SUM_OUTSIDE},
};

START_TEST(told_apart)
{
	struct kvm_sums *sums = calloc(1, sizeof(*sums));
	struct kvm_fault fault = {.at = 1000,
				  .entry = 3000,
				  .gpa = faults[_i].gpa,
				  .rip = 0x1234,
				  .handled = faults[_i].handled,
				  .again = faults[_i].again};

	kvm_sums_add(sums, &meta, &fault);
	for (int i = 0; i < KVM_NR_SUMS; i++)
		ck_assert_uint_eq(sums->by[i].faults, (enum kvm_sum)i == faults[_i].sum);
	ck_assert_uint_eq(sums->by[faults[_i].sum].time.max, 2000);
	free(sums);
}
END_TEST

/* More RIPs than have a place: all are counted, and those that fault most come first. */
START_TEST(rips)
{
	struct kvm_sums *sums = calloc(1, sizeof(*sums));
	struct trace_kvm_told told = {.counts = {.exits = 1, .entries = 1}};

	sums->told = &told;
	for (uint64_t i = 0; i < RIP_SUMS_MAX + 10; i++)
		kvm_sums_add(sums, &meta, &(struct kvm_fault){.rip = KERNEL + i});
	for (uint64_t i = 0; i < 3; i++)
		kvm_sums_add(sums, &meta, &(struct kvm_fault){.rip = KERNEL + 7 + i / 2});
	ck_assert_uint_eq(sums->rips.others, 10);
	json_t *json = kvm_sums_json(sums);
	const json_t *list = json_object_get(json_object_get(json, "tracepoints"), "rips");
	ck_assert_str_eq(json_string_value(json_object_get(json_array_get(list, 0), "rip")),
			 "0xffffffff81000007");
	ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(list, 0), "faults")), 3);
	ck_assert(json_is_null(json_object_get(json, "statistics")));
	json_decref(json);
	free(sums);
}
END_TEST

Suite *kvm_sums_suite(void)
{
	Suite *suite = suite_create("kvm_sums");
	TCase *tc = tcase_create("kvm_sums");

	tcase_add_loop_test(tc, told_apart, 0, sizeof(faults) / sizeof(faults[0]));
	tcase_add_test(tc, rips);
	suite_add_tcase(suite, tc);
	return suite;
}
