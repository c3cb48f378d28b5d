/* Where a guest's touches are backed by 2 MiB pages: counted in the host's tables. */
#include <stdio.h>
#include <string.h>

#include "tests/host_huge.h"
#include "tests/kvm/guests/lib/pattern.h"
#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

#define HUGE_PAGE (2UL << 20)
#define TRIES	  10 /* in most of which the governor's thread has the time it needs */

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

/* A page in each of 32 times 2 MiB. */
#define SPARSE "mode=w pages=32 stride=512"

START_TEST(always)
{
	uint64_t refusals = host_refusals();
	struct run run;

	need_huge_pages();
	run_guest(&run, "anon.elf", SPARSE, "--huge", "always", NULL, NULL);
	if (host_refusals() == refusals)
		ck_assert_uint_ge(stats_number(&run, "resident", "huge"), 32 * HUGE_PAGE);
	run_free(&run);
}
END_TEST

/* By default, and where it is forbidden. */
START_TEST(sparse)
{
	struct run run;

	run_guest(&run, "anon.elf", SPARSE, "--huge", _i ? "never" : "auto", NULL, NULL);
	ck_assert_uint_eq(stats_number(&run, "resident", "huge"), 0);
	ck_assert_uint_lt(area_number(&run, "ram", "resident"), 2 * HUGE_PAGE);
	run_free(&run);
}
END_TEST

/* 128 MiB in one go: did the governor's thread, in its sandbox, make something of it? */
static bool made_huge(void)
{
	uint64_t refusals = host_refusals();
	struct run run;
	bool made;

	run_guest(&run, "anon.elf", "mode=w pages=32768", NULL, NULL, NULL, NULL);
	made = stats_number(&run, "huge", "scans") > 0;
	if (host_refusals() == refusals)
		made = made && stats_number(&run, "resident", "huge") > 0 &&
		       stats_number(&run, "huge", "ahead") > 0;
	run_free(&run);
	return made;
}

START_TEST(dense)
{
	unsigned tries = 1;

	need_huge_pages();
	while (!made_huge() && tries < TRIES)
		tries++;
	ck_assert_uint_lt(tries, TRIES);
}
END_TEST

/*
 * The handlers, 4 MiB of it: an event each 2 MiB, one step; where the host's kernel
 * cannot move a huge page in (before 6.8), 512 small ones, counted as fallback.
 */
static void expect_two(const struct run *run, const char *area, const char *huge)
{
	uint64_t whole = count_of(run, area, huge, "faults");
	uint64_t fallback = count_of(run, area, NULL, "fallback");

	ck_assert_uint_eq(whole + fallback, 2);
	ck_assert_uint_eq(area_number(run, area, "huge"), whole * HUGE_PAGE);
	check_events(run);
}

START_TEST(anon_huge)
{
	struct run run;

	need_huge_pages();
	run_guest(&run, "anon.elf", "mode=w pages=1024", "--huge", "always", "--fault-engine",
		  "handler");
	/* Of RAM all that is touched is so: count what the sweep added. */
	ck_assert_uint_ge(count_of(&run, "ram", "anon_huge", "faults") +
			      count_of(&run, "ram", NULL, "fallback"),
			  2);
	ck_assert_uint_eq(count_of(&run, "ram", "anon_huge", "installed"),
			  512 * count_of(&run, "ram", "anon_huge", "faults"));
	check_events(&run);
	run_free(&run);
}
END_TEST

/* What the guest reads is the file's, what it writes stays its own. */
START_TEST(file_huge)
{
	const char *path = make_pmem("huge.img", 1024);
	char pmem[300];
	struct run run;

	need_huge_pages();
	snprintf(pmem, sizeof(pmem), "%s,mode=%s", path, _i ? "ro" : "cow");
	run_guest(&run, "pmem.elf", _i ? "mode=r pages=1024" : "mode=rw pages=1024", "--pmem", pmem,
		  "--huge", "always");
	expect_two(&run, "pmem0", "file_huge");
	ck_assert_uint_eq(file_read(&run, "pmem"), 1024 * 4096);
	ck_assert_uint_eq(page_word(path, 7), FILE_PATTERN(7));
	run_free(&run);
}
END_TEST

Suite *huge_suite(void)
{
	Suite *suite = suite_create("huge");
	TCase *tc = tcase_create("huge");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_test(tc, always);
	tcase_add_loop_test(tc, sparse, 0, 2);
	tcase_add_test(tc, dense);
	if (have_userfaultfd()) {
		tcase_add_test(tc, anon_huge);
		tcase_add_loop_test(tc, file_huge, 0, 2);
	}
	suite_add_tcase(suite, tc);
	return suite;
}
