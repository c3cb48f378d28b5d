/*
 * Windows of restored memory: who asks waits for the extent that he asks for, and for nothing
 * else of the window, which comes behind.
 */
#include "ept/stats.h"
#include "tests/ept/inject.h"
#include "tests/ept/snapshot_rig.h"
#include "tests/ept/uffd_suites.h"

#include <sched.h>

#define EXTENTS (EPT_TABLE_SIZE / EPT_EXTENT_PAGES)
#define STUCK	20UL /* the extent whose storage does not answer */

static struct snap_files of_threes(void)
{
	struct vm vm = snap_make(&snap_origins[0]);
	struct snap_files files;

	memset(vm.hva, 3, SNAP_SIZE);
	snap_take(&vm, &files, 0);
	vm_destroy(&vm);
	return files;
}

/* @threads: some bring in the rest; else the one that resolved the fault does. */
static struct snap_restored restore(const struct snap_files *files, bool threads)
{
	struct snap_restored r = {.snapshot = snap_open(files)};

	r.vm = snap_vm(&one_thread, &r.snapshot, 1, -1);
	if (threads)
		ck_assert_int_eq(ept_space_prefetch_rest(r.vm.space), 0);
	vm_start(&r.vm);
	return r;
}

static int in_extent(const struct snap_restored *r, uint64_t extent)
{
	return *at(&r->vm, extent * EPT_EXTENT_PAGES + 3);
}

static void wait_for_windows(const struct snap_restored *r, uint64_t windows, uint64_t *behind)
{
	struct ept_prefetch_stats stats;

	do {
		sched_yield();
		ept_prefetch_stats(r->vm.space, &stats);
	} while (stats.windows < windows);
	*behind = stats.behind;
}

struct toucher {
	const struct snap_restored *r;
	int got;
};

static void *touch_stuck(void *arg)
{
	struct toucher *t = arg;

	t->got = in_extent(t->r, STUCK);
	return NULL;
}

static uint64_t bytes_of(const struct snap_restored *r)
{
	return case_stats(&r->vm, EPT_CASE_SNAP_READ).bytes_read;
}

/*
 * Two touches, and the third has all 2 MiB as its window, of which an extent cannot be read now:
 * the third goes on. So does a fourth, of an extent that nobody reads yet; one of the stuck
 * extent waits for that read. In the end nothing was read twice.
 */
START_TEST(asked_goes_on)
{
	struct snap_files files = of_threes();
	struct snap_restored r = restore(&files, true);
	struct toucher toucher = {.r = &r};
	uint64_t read = inject_get(bytes_read), behind;
	pthread_t thread;

	ck_assert_int_eq(in_extent(&r, 0), 3);
	ck_assert_int_eq(in_extent(&r, 8), 3);
	wait_for_windows(&r, 1, &behind);
	ck_assert_uint_eq(behind, 3 * EPT_EXTENT_PAGES);
	inject_block(STUCK * EPT_EXTENT, (STUCK + 1) * EPT_EXTENT);
	ck_assert_int_eq(in_extent(&r, 16), 3);
	inject_wait_blocked();
	ck_assert_int_eq(in_extent(&r, 25), 3);
	pthread_create(&thread, NULL, touch_stuck, &toucher);
	while (!case_stats(&r.vm, EPT_CASE_TRANSIT).faults)
		sched_yield();
	inject_set(block, false);
	pthread_join(thread, NULL);
	ck_assert_int_eq(toucher.got, 3);
	wait_for_windows(&r, 2, &behind);
	ck_assert_uint_eq(behind, (EXTENTS - 4) * EPT_EXTENT_PAGES); /* 0, 8, 16, 25 */
	ck_assert_uint_eq(bytes_of(&r), 4 * EPT_EXTENT);
	ck_assert_uint_eq(inject_get(bytes_read) - read, EXTENTS * EPT_EXTENT);
	ck_assert_uint_eq(area_info(&r.vm).resident, EPT_TABLE_SIZE * PAGE);
	for (uint64_t page = 0; page < EPT_TABLE_SIZE; page++)
		ck_assert_int_eq(at(&r.vm, page)[PAGE - 1], 3);
	snap_restored_destroy(&r);
	snap_close(&files);
}
END_TEST

/*
 * The same by the thread that resolved the fault: it is woken for what it asked before, and that
 * is what the fault took.
 */
START_TEST(asked_goes_on_alone)
{
	struct snap_files files = of_threes();
	struct snap_restored r = restore(&files, false);
	uint64_t behind, begun = ept_now(), went_on;

	ck_assert_int_eq(in_extent(&r, 0), 3);
	ck_assert_int_eq(in_extent(&r, 8), 3);
	inject_block(STUCK * EPT_EXTENT, (STUCK + 1) * EPT_EXTENT);
	ck_assert_int_eq(in_extent(&r, 16), 3);
	inject_wait_blocked();
	went_on = ept_now();
	while (ept_now() - went_on < went_on - begun)
		sched_yield();
	inject_set(block, false);
	wait_for_windows(&r, 2, &behind);
	ck_assert_uint_eq(behind, (EXTENTS - 3) * EPT_EXTENT_PAGES);
	while (case_stats(&r.vm, EPT_CASE_SNAP_READ).faults < 3)
		sched_yield();
	ck_assert_uint_le(case_stats(&r.vm, EPT_CASE_SNAP_READ).latency.max, went_on - begun);
	snap_restored_destroy(&r);
	snap_close(&files);
}
END_TEST

/* An extent that is damaged is left out of the rest, and refused to who asks for it. */
START_TEST(damage_is_left_out)
{
	struct snap_files files = of_threes();
	struct snap_restored r = restore(&files, true);
	uint64_t behind;
	char c;

	snap_flip(files.memory, STUCK * EPT_EXTENT * 8 + 5);
	ck_assert_int_eq(in_extent(&r, 0), 3);
	ck_assert_int_eq(in_extent(&r, 8), 3);
	ck_assert_int_eq(in_extent(&r, 16), 3);
	wait_for_windows(&r, 2, &behind);
	ck_assert_uint_eq(behind, (EXTENTS - 4) * EPT_EXTENT_PAGES);
	ck_assert_ptr_null(ept_space_failure(r.vm.space));
	ck_assert_int_eq(ept_read(r.vm.space, GPA(STUCK * EPT_EXTENT), &c, 1, EPT_ORIGIN_DEVICE),
			 -EBADMSG);
	ck_assert_ptr_nonnull(ept_space_failure(r.vm.space));
	snap_restored_destroy(&r);
	snap_close(&files);
}
END_TEST

/* A stop in the middle of it, and a hold: neither loses anything, nor hangs. */
START_TEST(held_and_stopped)
{
	struct snap_files files = of_threes();
	struct snap_restored r = restore(&files, true);
	uint64_t behind;

	inject_set(pread_delay_us, 500);
	for (uint64_t n = 0; n < 3; n++)
		ck_assert_int_eq(in_extent(&r, n * 8), 3);
	ck_assert_int_eq(ept_space_hold(r.vm.space, 60000), 0);
	ck_assert_int_eq(r.vm.space->working, 0);
	ept_space_release(r.vm.space);
	if (_i)
		wait_for_windows(&r, 2, &behind);
	inject_set(pread_delay_us, 0);
	snap_restored_destroy(&r);
	snap_close(&files);
}
END_TEST

/* --- where one area ends and another begins ------------------------------------------------ */

#define LOW 70UL /* pages: the area behind them begins within an extent */

/* 2 MiB of two areas, as @from has them (NULL: anonymous memory). */
static struct vm two_areas(struct ept_snapshot *from, struct ept_area **high)
{
	static const uint64_t start[] = {0, LOW * PAGE, EPT_TABLE_SIZE * PAGE};
	struct ept_object *obj[2] = {NULL, NULL};
	struct vm vm;

	for (int i = 0; from && i < 2; i++)
		ck_assert_int_eq(ept_object_snapshot(&from, 1, GPA(start[i]),
						     start[i + 1] - start[i], NULL, &obj[i]),
				 0);
	vm = vm_begin(&one_thread, "low", obj[0], start[1]);
	ck_assert_int_eq(
	    ept_area_add(vm.space, "high", GPA(start[1]), start[2] - start[1], obj[1], high), 0);
	ept_object_put(obj[0]);
	ept_object_put(obj[1]);
	return vm;
}

/* A window of the upper one brings in nothing of the lower one. */
START_TEST(ends_with_its_area)
{
	struct ept_area *high;
	struct vm vm = two_areas(NULL, &high);
	struct snap_restored r;
	struct snap_files files;
	struct ept_area_info info;
	uint64_t behind;

	vm_start(&vm);
	memset(vm.hva, 3, EPT_TABLE_SIZE * PAGE);
	snap_take(&vm, &files, 0);
	vm_destroy(&vm);
	r.snapshot = snap_open(&files);
	r.vm = two_areas(r.snapshot, &high);
	if (_i)
		ck_assert_int_eq(ept_space_prefetch_rest(r.vm.space), 0);
	vm_start(&r.vm);
	ck_assert_int_eq(*at(&r.vm, 100), 3);
	ck_assert_int_eq(*at(&r.vm, 140), 3);
	ck_assert_int_eq(*at(&r.vm, LOW + 1), 3);
	wait_for_windows(&r, 2, &behind);
	ck_assert_uint_eq(behind,
			  EPT_TABLE_SIZE - 80 - 2 * EPT_EXTENT_PAGES); /* LOW is in 64..79 */
	ept_area_info(high, &info);
	ck_assert_uint_eq(info.resident, (EPT_TABLE_SIZE - LOW) * PAGE);
	ck_assert_uint_eq(area_info(&r.vm).resident, 0);
	snap_restored_destroy(&r);
	snap_close(&files);
}
END_TEST

Suite *suite_uffd_rest(void)
{
	Suite *suite = suite_create("ept on userfaultfd: the rest of a window");
	TCase *tc = tcase_create("rest");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, asked_goes_on);
	tcase_add_test(tc, asked_goes_on_alone);
	tcase_add_test(tc, damage_is_left_out);
	tcase_add_loop_test(tc, held_and_stopped, 0, 2);
	tcase_add_loop_test(tc, ends_with_its_area, 0, 2);
	suite_add_tcase(suite, tc);
	return suite;
}
