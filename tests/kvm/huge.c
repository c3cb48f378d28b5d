/* Where a guest's touches are backed by 2 MiB pages: counted in the host's tables. */
#include <stdio.h>
#include <string.h>

#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

#define HUGE_PAGE (2UL << 20)

static void need_huge_pages(void)
{
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
	char words[64] = "[never]";

	if (f && !fgets(words, sizeof(words), f))
		words[0] = 0;
	if (f)
		fclose(f);
	if (strstr(words, "[never]"))
		skip("the host gives no huge pages");
}

static uint64_t number(const struct run *run, const char *object, const char *name)
{
	return (uint64_t)json_integer_value(
	    json_object_get(json_object_get(run->stats, object), name));
}

/* A page in each of 32 times 2 MiB. */
#define SPARSE "mode=w pages=32 stride=512"

START_TEST(always)
{
	struct run run;

	need_huge_pages();
	run_guest(&run, "anon.elf", SPARSE, "--huge", "always", NULL, NULL);
	ck_assert_uint_ge(number(&run, "resident", "huge"), 32 * HUGE_PAGE);
	run_free(&run);
}
END_TEST

/* By default, and where it is forbidden. */
START_TEST(sparse)
{
	struct run run;

	run_guest(&run, "anon.elf", SPARSE, "--huge", _i ? "never" : "auto", NULL, NULL);
	ck_assert_uint_eq(number(&run, "resident", "huge"), 0);
	ck_assert_uint_lt(area_number(&run, "ram", "resident"), 2 * HUGE_PAGE);
	run_free(&run);
}
END_TEST

/* 128 MiB in one go: the governor's thread, in its sandbox, has all the time it needs. */
START_TEST(dense)
{
	struct run run;

	need_huge_pages();
	run_guest(&run, "anon.elf", "mode=w pages=32768", NULL, NULL, NULL, NULL);
	ck_assert_uint_gt(number(&run, "resident", "huge"), 0);
	ck_assert_uint_gt(number(&run, "huge", "scans"), 0);
	ck_assert_uint_gt(number(&run, "huge", "ahead"), 0);
	run_free(&run);
}
END_TEST

Suite *huge_suite(void)
{
	Suite *suite = suite_create("huge pages");
	TCase *tc = tcase_create("huge");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_test(tc, always);
	tcase_add_loop_test(tc, sparse, 0, 2);
	tcase_add_test(tc, dense);
	suite_add_tcase(suite, tc);
	return suite;
}
