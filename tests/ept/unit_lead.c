/* Files under the host kernel's engine: the rules by which readers and writers are led. */
#include "ept/density.h"
#include "ept/lead.h"
#include "ept/stats.h"
#include "tests/ept/fake_install.h"
#include "tests/ept/inject.h"
#include "tests/ept/unit_suites.h"
#include "tests/ept/util.h"
#include "tests/scratch.h"

#include <linux/magic.h>
#include <stdlib.h>

#define REGIONS 32U
#define PAGES	(REGIONS * REGION_PAGES)
#define MS	1000000UL

static struct vm vm;
static struct ept_governor *governor;
static uint64_t clock_ns;
/* What was asked for so far. */
static unsigned char asked[PAGES];
static unsigned nr_read, nr_copied, written;

static void begin(enum ept_file_mode mode)
{
	struct ept_config config = {
	    .vm_name = "test", .log = true, .engine = EPT_ENGINE_KERNEL, .vcpus = 1};
	int fd = scratch_file();

	ck_assert_int_eq(ftruncate(fd, PAGES * PAGE), 0); /* a hole: nobody reads it here */
	vm = vm_create(&config, fd, 0, PAGES * PAGE, mode);
	vm.fd = fd;
	ck_assert_ptr_nonnull(vm.area->lead);
	ept_file_watch_stop(vm.space); /* the test looks at what there is to do */
	fake_host(vm.hva, PAGES);
	governor = ept_governor_create(vm.space, false, true);
	ck_assert_ptr_nonnull(governor);
	vm.space->governor = governor;
	clock_ns = 1000 * MS;
	memset(asked, 0, sizeof(asked));
	nr_read = nr_copied = written = 0;
}

static void end(void)
{
	vm_destroy(&vm);
	inject_set(file_system, 0);
}

/* 1 if it was not before. */
static unsigned make_own(unsigned page)
{
	unsigned before = fake_host_count(page / REGION_PAGES);

	fake_host_file(page, 1, true);
	return fake_host_count(page / REGION_PAGES) - before;
}

/* Take the jobs that there are; nothing is asked for twice. Copies are made. */
static void take_jobs(void)
{
	for (unsigned i = 0; i < EPT_LEAD_JOBS; i++) {
		struct ept_lead_job *job = &vm.space->files.queue.jobs[i];

		for (; job->first < job->end; job->first++) {
			ck_assert_uint_lt(job->first, PAGES);
			if (job->kind == EPT_LEAD_COPY) {
				nr_copied += make_own((unsigned)job->first);
			} else {
				ck_assert(!asked[job->first]);
				asked[job->first] = 1;
				nr_read++;
			}
		}
	}
}

static void look(void)
{
	clock_ns += MS;
	ept_governor_look(governor, clock_ns);
	take_jobs();
}

/* Front to back, and back to front: what lies ahead is asked for, never more than was read. */
START_TEST(reader)
{
	begin(EPT_FILE_COW);
	for (unsigned at = 0; at < PAGES; at += 64) {
		fake_host_file(_i ? PAGES - at - 64 : at, 64, false);
		look();
		ck_assert_uint_le(nr_read, (LEAD_FIRST + 2) * REGION_PAGES + 2 * at);
	}
	/* All but the first regions, which tell. */
	ck_assert_uint_ge(nr_read, PAGES - REGION_PAGES);
	ck_assert_uint_eq(nr_copied, 0);
	end();
}
END_TEST

/*
 * What the host has read by itself lies in the way, and counts for nothing of what is asked for.
 * Of a file that a server has the governor does not ask, as that may wait for the server.
 */
START_TEST(past_what_is_there)
{
	static const char ones[4 * REGION_PAGES * PAGE] = {1};
	static const long file_systems[] = {0, NFS_SUPER_MAGIC};
	unsigned beyond = (_i ? 1 : 5) * REGION_PAGES;

	inject_set(file_system, file_systems[_i]);
	begin(EPT_FILE_COW);
	ck_assert_int_eq(pwrite(vm.fd, ones, sizeof(ones), REGION_PAGES * PAGE), sizeof(ones));
	if (ept_object_host_cached(vm.area->obj, 0, PAGE) >= 0) { /* Linux 6.5 */
		for (unsigned at = 0; at < STREAM_PAGES + 64; at += 64) {
			fake_host_file(at, 64, false);
			look();
		}
		for (unsigned i = 0; i < LEAD_FIRST * REGION_PAGES; i++)
			ck_assert(asked[beyond + i]);
		ck_assert(!asked[beyond + LEAD_FIRST * REGION_PAGES]);
	}
	end();
}
END_TEST

/*
 * By the waits that it asks for, with a page in 20 us: a reader whose way is clear is looked
 * at seldom, what lies ahead is asked for all the same, and a writer is not left alone.
 */
START_TEST(paced)
{
	uint64_t next = 0, now = 0;
	struct ept_huge_stats stats;

	begin(EPT_FILE_COW);
	for (unsigned at = 0; at < PAGES; at += 16, now += 16 * 20000) {
		for (unsigned i = 0; i < 16 && _i; i++, written++)
			make_own(at + i);
		if (!_i)
			fake_host_file(at, 16, false);
		if (now < next)
			continue;
		next = ept_governor_look(governor, clock_ns + now);
		next = now + (next ? next : 4 * MS);
		take_jobs();
	}
	ept_space_huge_stats(vm.space, &stats);
	if (_i) {
		ck_assert_uint_gt(nr_copied, PAGES * 3 / 4);
	} else {
		ck_assert_uint_ge(nr_read, PAGES - 4 * REGION_PAGES);
		/* And the first, which knows of no pace. */
		ck_assert_uint_le(stats.scans, PAGES / REGION_PAGES + 1);
	}
	end();
}
END_TEST

/* At random, each fault mapping 16 pages around: nothing is asked for. */
START_TEST(random_reader)
{
	begin(EPT_FILE_COW);
	for (unsigned n = 0; n < PAGES / 16 / 2; n++) {
		fake_host_file(n * 389 % (PAGES / 16) * 16, 16, false);
		if (n % 8 == 0)
			look();
	}
	look();
	ck_assert_uint_eq(nr_read + nr_copied, 0);
	end();
}
END_TEST

/* The same by the waits that it asks for, a fault in 100 us: less and less reason to look. */
START_TEST(random_reader_paced)
{
	uint64_t next = 0, now = 0;
	struct ept_huge_stats stats;

	begin(EPT_FILE_COW);
	for (unsigned n = 0; n < PAGES / 16 / 2; n++, now += 100000) {
		fake_host_file(n * 389 % (PAGES / 16) * 16, 16, false);
		if (now < next)
			continue;
		next = ept_governor_look(governor, clock_ns + now);
		next = now + (next ? next : 4 * MS);
	}
	ept_space_huge_stats(vm.space, &stats);
	ck_assert_uint_le(stats.scans, 8);
	end();
}
END_TEST

/* Where the page cache has 2 MiB in one piece a touch brings them all, and that is no stream. */
START_TEST(random_reader_of_large_folios)
{
	begin(EPT_FILE_COW);
	for (unsigned n = 0; n < REGIONS / 2; n++) {
		fake_host_file(n * 2 * REGION_PAGES, REGION_PAGES, false);
		look();
	}
	ck_assert_uint_eq(nr_read + nr_copied, 0);
	end();
}
END_TEST

/* In order, page by page: copies ahead, and never more than a tenth more than was written. */
START_TEST(writer)
{
	unsigned faults = 0;

	begin(EPT_FILE_COW);
	for (unsigned at = 0; at < PAGES; at++, written++) {
		faults += make_own(at);
		if (at % 32 == 0)
			look();
		ck_assert_uint_le(faults + nr_copied, written + 1 + written / 10 + COPY_FIRST);
	}
	ck_assert_uint_gt(nr_copied, PAGES * 3 / 4);
	end();
}
END_TEST

/* Every other page, at random, or memory that cannot be written: nothing is copied. */
START_TEST(no_writer)
{
	begin(_i == 2 ? EPT_FILE_RO : EPT_FILE_COW);
	for (unsigned n = 0; n < PAGES / 2; n++) {
		fake_host_file(_i == 0 ? n * 2 : _i == 1 ? n * 4099 % PAGES : n, 1, true);
		if (n % 64 == 0)
			look();
	}
	ck_assert_uint_eq(nr_copied, 0);
	end();
}
END_TEST

/* A writer that stops is forgotten, and the governor waits for the clock again. */
START_TEST(writer_stops)
{
	unsigned looks = 0;

	begin(EPT_FILE_COW);
	for (unsigned at = 0; at < 4 * REGION_PAGES; at += 32) {
		fake_host_file(at, 32, true);
		look();
	}
	ck_assert(ept_writers_any(&governor->areas[0]));
	do {
		clock_ns += 16 * MS;
		ck_assert_uint_lt(looks++, 100);
	} while (ept_governor_look(governor, clock_ns));
	ck_assert(!ept_writers_any(&governor->areas[0]));
	end();
}
END_TEST

/* More to do than there is room for: it is dropped and counted, nobody waits. */
START_TEST(no_room)
{
	struct ept_lead_stats stats;

	begin(EPT_FILE_COW);
	for (unsigned i = 0; i < EPT_LEAD_JOBS; i++)
		ck_assert_int_eq(ept_lead_read(vm.area, (uint64_t)i * 8, 8), 0);
	ck_assert_int_eq(ept_lead_read(vm.area, 1000, 8), -EAGAIN);
	ck_assert_int_eq(ept_lead_copy(vm.area, 1000, 8), -EAGAIN);
	ck_assert_int_eq(ept_lead_read(vm.area, PAGES, 8), 0); /* past the end: nothing to do */
	ept_area_lead_stats(vm.area, &stats);
	ck_assert_uint_eq(stats.dropped, 2);
	take_jobs();
	ck_assert_int_eq(ept_lead_copy(vm.area, PAGES - 4, 8), 0);
	take_jobs();
	ck_assert_uint_eq(nr_copied, 4);
	end();
}
END_TEST

Suite *suite_lead(void)
{
	Suite *suite = suite_create("ept: files that are led");
	TCase *tc = tcase_create("lead");

	tcase_add_loop_test(tc, reader, 0, 2);
	tcase_add_loop_test(tc, past_what_is_there, 0, 2);
	tcase_add_loop_test(tc, paced, 0, 2);
	tcase_add_test(tc, random_reader);
	tcase_add_test(tc, random_reader_paced);
	tcase_add_test(tc, random_reader_of_large_folios);
	tcase_add_test(tc, writer);
	tcase_add_loop_test(tc, no_writer, 0, 3);
	tcase_add_test(tc, writer_stops);
	tcase_add_test(tc, no_room);
	suite_add_tcase(suite, tc);
	return suite;
}
