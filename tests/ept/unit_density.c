/* The governor's rules, its thread and the host played: which regions become huge, which never. */
#include "ept/density.h"
#include "ept/host_pages.h"
#include "ept/stats.h"
#include "tests/ept/fake_install.h"
#include "tests/ept/unit_suites.h"
#include "tests/ept/util.h"

#include <errno.h>

#define REGIONS	   64U
#define MS	   1000000UL
#define LOOK_EVERY 64 /* touches */

static struct vm vm;
static struct ept_governor *governor;
static uint64_t clock_ns;
static unsigned regions;

static void begin_with(unsigned size)
{
	struct ept_config config = {
	    .vm_name = "test", .log = true, .engine = EPT_ENGINE_KERNEL, .vcpus = 1};

	regions = size;
	vm = vm_create(&config, -1, 0, size * EPT_LEAF_BYTES, EPT_FILE_COW);
	fake_host(vm.hva, (size_t)size * REGION_PAGES);
	governor = ept_governor_create(vm.space, true, false);
	ck_assert_ptr_nonnull(governor);
	vm.space->governor = governor;
	clock_ns = 1000 * MS;
}

static void begin(void)
{
	begin_with(REGIONS);
}

static void end(void)
{
	vm_destroy(&vm);
}

static void look(void)
{
	clock_ns += MS;
	ept_governor_look(governor, clock_ns);
}

/* Looks without a fault until the windows are closed and it wants no more. */
static void fall_quiet(void)
{
	unsigned looks = 0;

	do {
		clock_ns += 16 * MS;
		ck_assert_uint_lt(looks++, 100);
	} while (ept_governor_look(governor, clock_ns));
}

static unsigned nr_huge(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < regions; i++)
		n += fake_host_huge(i);
	return n;
}

static unsigned wanting(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < regions; i++)
		n += fake_host_wants(i);
	return n;
}

/* Front to back (or back to front): after the first region a fault brings 2 MiB. */
START_TEST(sequential)
{
	struct ept_huge_stats stats;

	begin();
	for (unsigned at = 0; at < REGIONS * REGION_PAGES; at += 128) {
		fake_host_touch(_i ? REGIONS * REGION_PAGES - at - 128 : at, 128);
		look();
	}
	fall_quiet();
	ept_space_huge_stats(vm.space, &stats);
	ck_assert_uint_eq(nr_huge(), REGIONS);
	ck_assert_uint_eq(stats.ahead, REGIONS - 1);
	ck_assert_uint_eq(stats.collapsed, 1);
	ck_assert_uint_eq(wanting(), 0);
	end();
}
END_TEST

/*
 * The governor comes late: the stream is out of its window and goes on by 4 KiB. The region it
 * is in becomes huge as soon as that shows.
 */
START_TEST(overtaken)
{
	const unsigned to = 1 + WINDOW_FIRST; /* the window ends there */

	begin();
	fake_host_touch(0, 192);
	look();
	ck_assert_uint_eq(nr_huge(), 1);
	ck_assert_uint_eq(wanting(), to - 1);
	fake_host_touch(REGION_PAGES, (to - 1) * REGION_PAGES);
	fake_host_touch(to * REGION_PAGES, 80);
	look();
	ck_assert_uint_eq(nr_huge(), to + 1);
	end();
}
END_TEST

/*
 * Pages are busy, so nothing collapses: the regions of two streams are filled up all the same, up
 * and down, and the windows in front of them open, also while no collapse is tried.
 */
START_TEST(two_streams)
{
	const unsigned top = 2 * WINDOW_FIRST + 4;
	struct ept_huge_stats stats;

	begin_with(top + 1 + BUSY_MAX);
	fake_host_refuse(-EAGAIN, 1000);
	for (unsigned i = top + 1; i <= top + BUSY_MAX; i++) { /* dense, and no streams */
		fake_host_touch(i * REGION_PAGES, REGION_DENSE / 2);
		fake_host_touch((i + 1) * REGION_PAGES - REGION_DENSE / 2, REGION_DENSE / 2);
	}
	look();
	ck_assert_uint_eq(fake_host_collapses(), BUSY_MAX);
	fake_host_touch(0, 192);
	look();
	fake_host_touch(top * REGION_PAGES + 320, 192);
	look();
	ck_assert_uint_eq(fake_host_collapses(), BUSY_MAX);
	ck_assert_uint_eq(nr_huge(), 0);
	ck_assert_uint_eq(fake_host_count(0), REGION_PAGES);
	ck_assert_uint_eq(fake_host_count(top), REGION_PAGES);
	for (unsigned i = 1; i <= WINDOW_FIRST; i++) {
		ck_assert(fake_host_wants(i));
		ck_assert(fake_host_wants(top - i));
	}
	ept_space_huge_stats(vm.space, &stats);
	ck_assert_uint_eq(stats.filled, 2 * 320);
	end();
}
END_TEST

/* A stream that ends takes no memory but what it touched, and what comes later is small. */
START_TEST(stream_ends)
{
	begin();
	for (unsigned at = 0; at < 4 * REGION_PAGES; at += 64) {
		fake_host_touch(at, 64);
		look();
	}
	ck_assert_uint_eq(nr_huge(), 4);
	ck_assert_uint_gt(wanting(), 4);
	fall_quiet();
	ck_assert_uint_eq(wanting(), 0);
	fake_host_touch(6 * REGION_PAGES, 1);
	ck_assert_uint_eq(fake_host_count(6), 1);
	end();
}
END_TEST

/* One page to 32 in each 2 MiB, a stride over all, once: nothing becomes huge. */
START_TEST(sparse)
{
	static const struct {
		unsigned stride, touches; /* a look */
	} passes[] = {{REGION_PAGES, 32}, {73, 32}, {128, 32}, {64, 128}, {16, 512}};
	unsigned touched = 0;

	begin();
	for (unsigned at = 0; at < REGIONS * REGION_PAGES; at += passes[_i].stride) {
		fake_host_touch(at, 1);
		if (touched++ % passes[_i].touches == 0)
			look();
	}
	fall_quiet();
	ck_assert_uint_eq(nr_huge(), 0);
	ck_assert_uint_eq(wanting(), 0);
	end();
}
END_TEST

static unsigned present_pages(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < regions; i++)
		n += fake_host_count(i);
	return n;
}

/* Page @n of each region in turn, pages scattered: every region as dense as the next. */
static void touch_all_over(unsigned n)
{
	for (unsigned i = 0; i < REGIONS; i++)
		fake_host_touch(i * REGION_PAGES + n * 211 % REGION_PAGES, 1);
}

/* At random all over: bets, never worth more than BET times what was touched. */
START_TEST(spread)
{
	uint64_t faults;
	unsigned touched = 0;

	begin();
	faults = ept_host_faults();
	for (unsigned n = 0; n < REGION_PAGES / 2; n++) {
		touch_all_over(n);
		touched += REGIONS;
		look();
		ck_assert_uint_le(present_pages(),
				  (BET + 1) * (touched + 2 * REGIONS) + REGION_PAGES);
	}
	ck_assert_uint_eq(nr_huge(), REGIONS);
	ck_assert_uint_lt(ept_host_faults() - faults, touched / 8);
	ck_assert_uint_lt(fake_host_collapses(), REGIONS / 2);
	end();
}
END_TEST

/* Of so many regions a look's faults reach only some: it is at random all the same. */
START_TEST(spread_wide)
{
	const unsigned size = 256;

	begin_with(size);
	for (unsigned n = 0; n < REGION_PAGES / 4; n++)
		for (unsigned i = 0; i < size; i++) {
			unsigned region = i * 89 % size;

			fake_host_touch(region * REGION_PAGES + n * 211 % REGION_PAGES, 1);
			if (i % LOOK_EVERY == 0)
				look();
		}
	ck_assert_uint_eq(nr_huge(), size);
	end();
}
END_TEST

/*
 * Some of a call are refused as their pages are busy: each is tried by itself at once,
 * and what was given back is none of them.
 */
START_TEST(spread_and_busy)
{
	struct ept_huge_stats stats;
	unsigned n = 0;

	begin();
	for (; n < 20; n++)
		touch_all_over(n);
	discard(&vm, 2 * REGION_PAGES + 211, 1); /* a page of region 2 */
	look();
	for (; !nr_huge(); n++) {
		ck_assert_uint_lt(n, REGION_PAGES / 2);
		touch_all_over(n);
		fake_host_refuse(-EAGAIN, 1);
		look();
	}
	ck_assert(fake_host_huge(0)); /* the one that was refused */
	ck_assert(fake_host_huge(1));
	ck_assert(!fake_host_huge(2));
	ck_assert(fake_host_huge(3));
	for (; n < REGION_PAGES / 2; n++) {
		touch_all_over(n);
		look();
	}
	ept_space_huge_stats(vm.space, &stats);
	ck_assert_uint_ge(stats.refused, 1);
	ck_assert_uint_eq(stats.bets, REGIONS - 1);
	ck_assert_uint_eq(nr_huge(), REGIONS - 1);
	ck_assert(!fake_host_huge(2));
	end();
}
END_TEST

/* A region filled slowly and alone: dense from 7 in 8 on. */
START_TEST(alone)
{
	begin();
	for (unsigned n = 0; n < 440; n += 40) {
		for (unsigned i = 0; i < 40; i++)
			fake_host_touch(5 * REGION_PAGES + (n + i) * 211 % REGION_PAGES, 1);
		look();
		look();
	}
	ck_assert_uint_eq(nr_huge(), 0);
	for (unsigned i = 440; i < REGION_PAGES; i++)
		fake_host_touch(5 * REGION_PAGES + i * 211 % REGION_PAGES, 1);
	fake_host_touch(40 * REGION_PAGES, 1);
	look();
	ck_assert_uint_eq(nr_huge(), 1);
	ck_assert(fake_host_huge(5));
	end();
}
END_TEST

/* What was given back stays so until the guest has touched all of it again. */
START_TEST(given_back)
{
	begin();
	fake_host_touch(0, REGION_PAGES);
	look();
	ck_assert_uint_eq(nr_huge(), 1);
	discard(&vm, 100, 20);
	fake_host_touch(40 * REGION_PAGES, 100); /* something to look for */
	look();
	fall_quiet();
	ck_assert_uint_eq(fake_host_count(0), REGION_PAGES - 20);
	fake_host_touch(100, 19);
	fake_host_touch(40 * REGION_PAGES + 100, 80);
	look();
	ck_assert_uint_eq(fake_host_count(0), REGION_PAGES - 1);
	ck_assert_uint_eq(nr_huge(), 0);
	fake_host_touch(119, 1);
	fake_host_touch(50 * REGION_PAGES, 80);
	look();
	ck_assert(fake_host_huge(0));
	end();
}
END_TEST

static void give_back_some(void)
{
	fake_host_when_asked(NULL);
	discard(&vm, 100, 20);
}

/* The same between the look and what follows from it. */
START_TEST(given_back_meanwhile)
{
	begin();
	fake_host_touch(0, REGION_PAGES);
	fake_host_when_asked(give_back_some);
	look();
	ck_assert_uint_eq(fake_host_count(0), REGION_PAGES - 20);
	ck_assert_uint_eq(nr_huge(), 0);
	end();
}
END_TEST

/* A stream's region is full, and busy: it does not grow any more, and is tried again. */
START_TEST(busy_once)
{
	begin();
	fake_host_refuse(-EAGAIN, 2);
	fake_host_touch(0, 192);
	look();
	ck_assert_uint_eq(fake_host_count(0), REGION_PAGES);
	ck_assert(!fake_host_huge(0));
	for (unsigned n = 0; n < 2; n++) { /* something to look for */
		fake_host_touch((40 + n) * REGION_PAGES, 80);
		look();
	}
	ck_assert(fake_host_huge(0));
	ck_assert_uint_eq(fake_host_collapses(), 3);
	end();
}
END_TEST

/* One that had to wait, and was given back as a whole meanwhile, is no stream's any more. */
START_TEST(emptied_while_it_waits)
{
	begin();
	fake_host_refuse(-ENOMEM, 1);
	fake_host_touch(0, REGION_PAGES);
	fake_host_touch(40 * REGION_PAGES, REGION_PAGES);
	look();
	ck_assert_uint_eq(fake_host_collapses(), 1);
	discard(&vm, 40 * REGION_PAGES, REGION_PAGES);
	for (unsigned n = 0; n < 4; n++) {
		fake_host_touch(25 * REGION_PAGES + n * 80, 64); /* something to look for */
		look();
		if (n == 0)
			fake_host_touch(40 * REGION_PAGES, 1);
		if (n == 1)
			clock_ns += 16 * MS;
	}
	ck_assert(fake_host_huge(0));
	ck_assert_uint_eq(fake_host_count(40), 1);
	end();
}
END_TEST

/* One that stays busy is given up. */
START_TEST(busy_for_good)
{
	begin();
	fake_host_refuse(-EAGAIN, 1000);
	fake_host_touch(0, REGION_PAGES);
	for (unsigned n = 0; n < 200; n++) {
		fake_host_touch(32 * REGION_PAGES + n * 80, 64);
		clock_ns += 16 * MS;
		look();
	}
	ck_assert(!fake_host_huge(0));
	fake_host_refuse(0, 0);
	fake_host_touch(31 * REGION_PAGES, 64);
	look();
	ck_assert(!fake_host_huge(0));
	end();
}
END_TEST

/* The zero page costs nothing, a huge page would. */
START_TEST(only_read)
{
	begin();
	fake_host_zero_pages(true);
	fake_host_touch(0, REGION_PAGES);
	look();
	ck_assert_uint_eq(nr_huge(), 0);
	end();
}
END_TEST

/* No 2 MiB to be had: it stays small, is counted, and tried again later, less and less often. */
START_TEST(refused)
{
	struct ept_huge_stats stats;

	begin();
	fake_host_small(true);
	fake_host_refuse(-ENOMEM, 2);
	for (unsigned at = 0; at < 8 * REGION_PAGES; at += 256) {
		fake_host_touch(at, 256);
		look();
	}
	ept_space_huge_stats(vm.space, &stats);
	ck_assert_uint_ge(stats.refused, 1);
	ck_assert_uint_le(stats.refused, 5);
	ck_assert_uint_eq(nr_huge(), 0);
	clock_ns += 20000 * MS;
	fake_host_small(false);
	fake_host_refuse(0, 0);
	for (unsigned at = 8 * REGION_PAGES; at < 16 * REGION_PAGES; at += 128) {
		fake_host_touch(at, 128);
		look();
	}
	ck_assert_uint_ge(nr_huge(), 7);
	end();
}
END_TEST

/* Nothing happens: no look is wanted until the VM uses CPU time, and then a single one. */
START_TEST(quiet)
{
	struct ept_huge_stats stats;

	begin();
	fall_quiet();
	ck_assert_uint_eq(ept_governor_look(governor, clock_ns += 1000 * MS), 0);
	fake_host_touch(0, 10);
	ck_assert_uint_eq(ept_governor_look(governor, clock_ns += 1000 * MS), 0);
	ept_space_huge_stats(vm.space, &stats);
	ck_assert_uint_eq(stats.scans, 0);
	end();
}
END_TEST

/* A burst after a long rest: the rest says nothing of its pace, so the next look is soon. */
START_TEST(burst_after_a_rest)
{
	begin();
	fall_quiet();
	fake_host_touch(0, 128);
	clock_ns += 1000 * MS;
	/* How soon depends on what looking costs; 16 ms are for who knows no better. */
	ck_assert_uint_ne(ept_governor_look(governor, clock_ns), 16 * MS);
	end();
}
END_TEST

Suite *suite_density(void)
{
	Suite *suite = suite_create("ept, the governor of huge pages");
	TCase *tc = tcase_create("density");

	tcase_add_loop_test(tc, sequential, 0, 2);
	tcase_add_test(tc, overtaken);
	tcase_add_test(tc, two_streams);
	tcase_add_test(tc, stream_ends);
	tcase_add_loop_test(tc, sparse, 0, 5);
	tcase_add_test(tc, spread);
	tcase_add_test(tc, spread_wide);
	tcase_add_test(tc, spread_and_busy);
	tcase_add_test(tc, alone);
	tcase_add_test(tc, given_back);
	tcase_add_test(tc, given_back_meanwhile);
	tcase_add_test(tc, busy_once);
	tcase_add_test(tc, emptied_while_it_waits);
	tcase_add_test(tc, busy_for_good);
	tcase_add_test(tc, only_read);
	tcase_add_test(tc, refused);
	tcase_add_test(tc, quiet);
	tcase_add_test(tc, burst_after_a_rest);
	suite_add_tcase(suite, tc);
	return suite;
}
