/*
 * Everything at once on a real VM: two vCPUs, several fault threads, reclaim to a swap file, and
 * write-back of a shared file, or snapshots of memory and of a private file. tests/ept/stress.c
 * has the same of ept/ alone, with all of them together: a file that is shared is in no snapshot.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kvm/guests/lib/pattern.h"
#include "tests/kvm/snapshot_rig.h"
#include "tests/kvm/suites.h"

#define LIMIT	  (16UL << 20)
#define PAGES	  4608U /* 18 MiB of RAM, and of the file */
#define PASSES	  3U
#define SNAPSHOTS 3

static void start_stress(struct run *run, const char *path, const char *mode, const char *flush)
{
	char append[100], pmem[600];

	if (!have_userfaultfd())
		skip("stress: no userfaultfd here");
	if (emulated_host())
		skip("stress: 70,000 faults take minutes on an emulated host");
	snprintf(append, sizeof(append), "pages=%u passes=%u flush=%s", PAGES, PASSES, flush);
	snprintf(pmem, sizeof(pmem), "%s,mode=%s", path, mode);
	run_start(run, NULL,
		  ARGS("--name", "stress", "--kernel", guest_path("stress.elf"), "--append", append,
		       "--cpus", "2", "--memory", "64M", "--pmem", pmem, "--memory-limit", "16M",
		       "--swap", scratch("stress-swap"), "--time-limit", GUEST_LIMIT));
	run_until(run, "ready\n");
}

/* It found all its words, pages left and came back, and the limit held. */
static void end_stress(struct run *run)
{
	run_wait(run);
	ck_assert_msg(run->status == 0, "status %d: %s", run->status, run->err_text);
	check_events(run);
	ck_assert_uint_le(stats_number(run, "reclaim", "peak"), LIMIT + LIMIT / 50);
	ck_assert_uint_gt(stats_number(run, "reclaim", "compressed"), PAGES);
	ck_assert_uint_gt(stats_number(run, "reclaim", "dropped"), 0);
	ck_assert_uint_gt(stats_number(run, "reclaim", "refaults"), PAGES);
}

/* Each flush is of what both write meanwhile; at the end the file has every word. */
START_TEST(write_back)
{
	const char *path = make_pmem("stress.img", PAGES);
	struct run run;
	uint64_t *data;
	size_t len;

	start_stress(&run, path, "shared", "400");
	end_stress(&run);
	ck_assert_uint_gt(count_of(&run, "pmem0", "shared_mkwrite", "faults"), 0);
	ck_assert_uint_eq(area_number(&run, "pmem0", "dirty"), 0);
	data = (uint64_t *)(void *)read_file(path, &len);
	ck_assert_uint_eq(len, PAGES * 4096UL);
	for (unsigned n = 0; n < PAGES; n++) {
		ck_assert_uint_eq(data[n * 512UL], FILE_PATTERN(n));
		ck_assert_uint_eq(data[n * 512UL + 1], PASSES);
		ck_assert_uint_eq(data[n * 512UL + 2], PASSES);
	}
	free(data);
	run_free(&run);
}
END_TEST

/* Each snapshot goes on as the VM did: to the end, with every word where it was. */
START_TEST(snapshots)
{
	const char *path = make_pmem("stress.img", PAGES), *before = copy_file(path, "before");
	struct run_how how = {.plain = true};
	struct run run;

	start_stress(&run, path, "cow", "0");
	for (int i = 0; i < SNAPSHOTS; i++) {
		some_moment(200000);
		snapshot("stress", scratch("stress-%d", i));
	}
	end_stress(&run);
	run_free(&run);
	for (int i = 0; i < SNAPSHOTS; i++) {
		run_start(&run, &how,
			  ARGS("restore", scratch("stress-%d", i), "--memory-limit", "16M",
			       "--swap", scratch("again-swap"), "--stats", "off"));
		run_wait(&run);
		ck_assert_msg(run.status == 0, "snapshot %d: status %d: %s", i, run.status,
			      run.err_text);
		run_free(&run);
	}
	ck_assert(same_files(path, before));
}
END_TEST

Suite *stress_suite(void)
{
	Suite *suite = suite_create("stress");
	TCase *tc = tcase_create("stress");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, NULL, end_all);
	tcase_add_test(tc, write_back);
	tcase_add_test(tc, snapshots);
	suite_add_tcase(suite, tc);
	return suite;
}
