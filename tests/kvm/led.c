/* Files under the default engine: who has them, and who goes through one in order is led. */
#include <stdio.h>
#include <string.h>

#include "tests/kvm/guests/lib/pattern.h"
#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

#define PAGES 16384 /* 64 MiB */
#define TRIES 10    /* in most of which the governor's thread has the time it needs */

/* What the guest checks is the file's; what it writes stays its own. Was it led? */
static bool is_led(const char *path, bool writes)
{
	char pmem[300], append[64];
	struct run run;
	bool copied;

	snprintf(pmem, sizeof(pmem), "%s,mode=%s", path, writes ? "cow" : "ro");
	snprintf(append, sizeof(append), "mode=%s pages=%d", writes ? "w" : "r", PAGES);
	run_guest(&run, "pmem.elf", append, "--pmem", pmem, NULL, NULL);
	ck_assert_str_eq(area_string(&run, "pmem0", "engine"), "kernel");
	ck_assert_uint_ge(area_number(&run, "pmem0", "resident"), PAGES * 4096UL);
	ck_assert_uint_eq(led_of(&run, "pmem0", "failed"), 0);
	copied = led_of(&run, "pmem0", "copied") > 0;
	if (writes) {
		ck_assert_uint_le(led_of(&run, "pmem0", "copied"), PAGES);
		ck_assert_uint_ge(area_number(&run, "pmem0", "copied"), PAGES * 4096UL);
		ck_assert_uint_eq(page_word(path, 7), FILE_PATTERN(7));
	} else {
		ck_assert_uint_eq(area_number(&run, "pmem0", "copied"), 0);
	}
	run_free(&run);
	return copied || !writes;
}

START_TEST(led)
{
	const char *path = make_pmem("led.img", PAGES);
	unsigned tries = 1;

	while (!is_led(path, _i) && tries < TRIES)
		tries++;
	ck_assert_uint_lt(tries, TRIES);
}
END_TEST

/* A page in each 4 MiB, so that no two lie in one piece of the host's page cache: no copy, no
 * window. */
START_TEST(not_led)
{
	const char *path = make_pmem("sparse.img", PAGES);
	struct run run;

	run_guest(&run, "pmem.elf",
		  _i ? "mode=w pages=16 stride=1024" : "mode=r pages=16 stride=1024", "--pmem",
		  path, NULL, NULL);
	ck_assert_uint_eq(led_of(&run, "pmem0", "windows"), 0);
	ck_assert_uint_eq(led_of(&run, "pmem0", "copied"), 0);
	if (_i)
		ck_assert_uint_eq(area_number(&run, "pmem0", "copied"), 16 * 4096);
	run_free(&run);
}
END_TEST

static const struct {
	const char *mode, *option, *value, *engine;
} choices[] = {
    {"cow", NULL, NULL, "kernel"},
    {"ro", NULL, NULL, "kernel"},
    {"shared", NULL, NULL, "handler"},
    {"cow", "--memory-limit", "32M", "handler"},
    {"cow", "--fault-engine", "handler", "handler"},
    {"cow", "--huge", "always", "handler"},
};

START_TEST(engine)
{
	const char *path = make_pmem("choice.img", 1024);
	char pmem[300];
	struct run run;

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	snprintf(pmem, sizeof(pmem), "%s,mode=%s", path, choices[_i].mode);
	run_guest(&run, "pmem.elf", "mode=r pages=16", "--pmem", pmem, choices[_i].option,
		  choices[_i].value);
	ck_assert_str_eq(area_string(&run, "pmem0", "engine"), choices[_i].engine);
	run_free(&run);
}
END_TEST

Suite *led_suite(void)
{
	Suite *suite = suite_create("led");
	TCase *tc = tcase_create("led");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_loop_test(tc, led, 0, 2);
	tcase_add_loop_test(tc, not_led, 0, 2);
	tcase_add_loop_test(tc, engine, 0, sizeof(choices) / sizeof(choices[0]));
	suite_add_tcase(suite, tc);
	return suite;
}
