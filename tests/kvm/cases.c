/*
 * Each case of the nested fault, driven from a guest and counted: with a page a
 * fault, a run over N pages and one over 64 more differ by exactly 64 faults of
 * that case, and by none of its neighbours.
 */
#include <stdio.h>
#include <string.h>

#include "tests/kvm/guests/lib/pattern.h"
#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

/* A guest's work, the area it goes to, and what 64 pages more of it must count. */
static const struct {
	const char *what;
	const char *guest, *append, *area;
	const char *mode; /* of the pmem file; NULL: no file */
	struct {
		const char *kase;
		unsigned more;
	} expect[6];
} works[] = {
    {"anonymous read",
     "anon.elf",
     "mode=r",
     "ram",
     NULL,
     {{"anon_read", 64}, {"anon_write", 0}, {"anon_wp", 0}}},
    {"anonymous write",
     "anon.elf",
     "mode=w",
     "ram",
     NULL,
     {{"anon_read", 0}, {"anon_write", 64}, {"anon_wp", 0}}},
    {"anonymous read, then write",
     "anon.elf",
     "mode=rw",
     "ram",
     NULL,
     {{"anon_read", 64}, {"anon_write", 0}, {"anon_wp", 64}}},
    {"kernel data written",
     "kernel-data.elf",
     "mode=w table=w",
     "kernel:rw",
     NULL,
     {{"file_read", 0}, {"file_cow", 64}, {"file_wp", 0}}},
    {"kernel data read, then written",
     "kernel-data.elf",
     "mode=rw table=w",
     "kernel:rw",
     NULL,
     {{"file_read", 64}, {"file_cow", 0}, {"file_wp", 64}}},
    {"constant data of the kernel read",
     "kernel-data.elf",
     "mode=r table=r",
     "kernel:r",
     NULL,
     {{"file_read", 64}, {"file_cow", 0}, {"file_wp", 0}}},
    {"pmem cow read",
     "pmem.elf",
     "mode=r",
     "pmem0",
     "cow",
     {{"file_read", 64}, {"file_cow", 0}, {"file_wp", 0}}},
    {"pmem cow written",
     "pmem.elf",
     "mode=w",
     "pmem0",
     "cow",
     {{"file_read", 0}, {"file_cow", 64}, {"file_wp", 0}}},
    {"pmem cow read, then written",
     "pmem.elf",
     "mode=rw",
     "pmem0",
     "cow",
     {{"file_read", 64}, {"file_cow", 0}, {"file_wp", 64}}},
    {"pmem ro read", "pmem.elf", "mode=r", "pmem0", "ro", {{"file_read", 64}, {"ro_write", 0}}},
    {"pmem ro written",
     "pmem.elf",
     "mode=drop",
     "pmem0",
     "ro",
     {{"file_read", 64}, {"ro_write", 64}, {"file_cow", 0}, {"file_wp", 0}}},
    {"pmem shared read",
     "pmem.elf",
     "mode=r",
     "pmem0",
     "shared",
     {{"shared_read", 64}, {"shared_write", 0}, {"shared_mkwrite", 0}}},
    {"pmem shared written",
     "pmem.elf",
     "mode=w",
     "pmem0",
     "shared",
     {{"shared_read", 0}, {"shared_write", 64}, {"shared_mkwrite", 0}}},
    {"pmem shared read, then written",
     "pmem.elf",
     "mode=rw",
     "pmem0",
     "shared",
     {{"shared_read", 64}, {"shared_write", 0}, {"shared_mkwrite", 64}}},
};

static void run_work(struct run *run, int i, unsigned pages)
{
	char append[64], pmem[600];

	snprintf(append, sizeof(append), "%s pages=%u", works[i].append, pages);
	snprintf(pmem, sizeof(pmem), "%s,mode=%s", make_pmem("work", 512),
		 works[i].mode ? works[i].mode : "cow");
	run_foal(run,
		 ARGS("--kernel", guest_path(works[i].guest), "--append", append, "--fault-engine",
		      "handler", "--fault-around", "1", works[i].mode ? "--pmem" : NULL, pmem));
	ck_assert_msg(run->status == 0, "%s: status %d: %s", works[i].what, run->status,
		      run->err_text);
	check_events(run);
}

/*
 * Before Linux 6.4 a page cannot be mapped and write-protected in one step, so
 * a shared page that is read counts as written from then on.
 */
static bool write_seen_after_read(void)
{
	return linux_at_least(6, 4);
}

START_TEST(sixty_four_more)
{
	struct run few, many;

	if (!strcmp(works[_i].what, "pmem shared read, then written") && !write_seen_after_read())
		skip("a write after a read is not seen before Linux 6.4");
	run_work(&few, _i, 64);
	run_work(&many, _i, 128);
	for (int c = 0; works[_i].expect[c].kase; c++) {
		const char *kase = works[_i].expect[c].kase;
		uint64_t a = count_of(&few, works[_i].area, kase, "faults");
		uint64_t b = count_of(&many, works[_i].area, kase, "faults");
		ck_assert_msg(b - a == works[_i].expect[c].more, "%s: %s: %lu, then %lu faults",
			      works[_i].what, kase, a, b);
	}
	run_free(&few);
	run_free(&many);
}
END_TEST

static uint64_t file_faults(const char *append, const char *around)
{
	struct run run;
	const char *pmem = make_pmem("around", 512);

	run_foal(&run, ARGS("--kernel", guest_path("pmem.elf"), "--append", append, "--pmem", pmem,
			    "--fault-around", around, "--fault-engine", "handler"));
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	uint64_t faults = count_of(&run, "pmem0", "file_read", "faults");
	/* Each page that was asked for is either a fault or mapped around one. */
	ck_assert_uint_le(count_of(&run, "pmem0", "file_read", "around") + faults,
			  count_of(&run, "pmem0", "file_read", "installed"));
	check_events(&run);
	run_free(&run);
	return faults;
}

/* A window of the size given, then of 64 up to the next border, of 512, and then leaves. */
START_TEST(windows_grow_with_sequential_reads)
{
	ck_assert_uint_eq(file_faults("mode=r pages=16", "16"), 1);
	ck_assert_uint_eq(file_faults("mode=r pages=64", "16"), 2);
	ck_assert_uint_eq(file_faults("mode=r pages=512", "512"), 1);
	ck_assert_uint_eq(file_faults("mode=r pages=256", "1"), 256);
}
END_TEST

/* In order, and so copied ahead: fewer faults than pages, and hardly more memory than written. */
START_TEST(sequential_writes_are_copied_ahead)
{
	struct run run;
	const char *pmem = make_pmem("written", 2048);

	run_guest(&run, "pmem.elf", "mode=w pages=1000", "--pmem", pmem, "--fault-engine",
		  "handler");
	uint64_t faults = count_of(&run, "pmem0", "file_cow", "faults");
	uint64_t copies = count_of(&run, "pmem0", "file_cow", "installed");
	ck_assert_uint_le(faults, 1000 / 8);
	ck_assert_uint_ge(copies, 1000);
	ck_assert_uint_le(copies, 1000 + 1000 / 16);
	ck_assert_uint_eq(count_of(&run, "pmem0", "file_wp", "faults"), 0);
	check_events(&run);
	run_free(&run);
}
END_TEST

/* What is read ahead is what the guest then reads, and no byte is read twice. */
START_TEST(reads_ahead_of_a_sequential_reader)
{
	struct run run;
	const char *pmem = make_pmem("ahead", 4096);

	run_guest(&run, "pmem.elf", "mode=r pages=4096", "--pmem", pmem, "--fault-engine",
		  "handler");
	ck_assert_uint_le(count_of(&run, "pmem0", "file_read", "faults"), 4096 / 15);
	ck_assert_uint_eq(file_read(&run, "pmem"), 4096 * 4096);
	ck_assert_uint_gt(ahead_of(&run, "pmem0", "pages"), 0);
	ck_assert_uint_eq(ahead_of(&run, "pmem0", "wasted"), 0);
	ck_assert_uint_eq(count_of(&run, "pmem0", NULL, "bytes_read") +
			      ahead_of(&run, "pmem0", "bytes_read"),
			  4096 * 4096);
	check_events(&run);
	run_free(&run);
}
END_TEST

START_TEST(a_read_far_off_reads_one_window)
{
	struct run run;
	const char *pmem = make_pmem("far", 4096);

	run_guest(&run, "pmem.elf", "mode=r pages=8 stride=512", "--pmem", pmem, "--fault-engine",
		  "handler");
	ck_assert_uint_eq(count_of(&run, "pmem0", "file_read", "faults"), 8);
	ck_assert_uint_le(file_read(&run, "pmem"), 8 * 16 * 4096);
	ck_assert_uint_eq(count_of(&run, "pmem0", "file_read", "bytes_read"),
			  file_read(&run, "pmem"));
	run_free(&run);
	run_foal(&run,
		 ARGS("--kernel", guest_path("pmem.elf"), "--append", "mode=r pages=8 stride=512",
		      "--pmem", pmem, "--fault-around", "1", "--fault-engine", "handler"));
	ck_assert_uint_eq(file_read(&run, "pmem"), 8 * 4096);
	run_free(&run);
}
END_TEST

/* Window and file end: the last, short window is clipped, no byte read twice. */
START_TEST(window_ends_with_the_file)
{
	struct run run;
	const char *pmem = make_pmem("short", 21);

	run_guest(&run, "pmem.elf", "mode=rw pages=21", "--pmem", pmem, "--fault-engine",
		  "handler");
	ck_assert_uint_eq(count_of(&run, "pmem0", "file_read", "faults"), 2);
	ck_assert_uint_eq(count_of(&run, "pmem0", NULL, "bytes_read") +
			      ahead_of(&run, "pmem0", "bytes_read"),
			  21 * 4096);
	ck_assert_uint_eq(file_read(&run, "pmem"), 21 * 4096);
	run_free(&run);
}
END_TEST

START_TEST(the_kernel_is_read_where_it_is_touched)
{
	struct run run;

	run_guest(&run, "kernel-data.elf", "mode=r table=r pages=32", NULL, NULL, NULL, NULL);
	/* 4 MiB of tables of which 128 KiB are touched; what a boot reads is less than 128 more. */
	ck_assert_uint_gt(file_size(&run, "kernel"), 4 << 20);
	ck_assert_uint_lt(file_read(&run, "kernel"), 256 << 10);
	run_free(&run);
}
END_TEST

START_TEST(open_bus)
{
	struct run run;

	run_guest(&run, "bus.elf", "holes=16", NULL, NULL, NULL, NULL);
	/* 3 holes of 1 write and 4 reads each, at most one exit each, several for wide ones. */
	ck_assert_uint_ge(count_of(&run, NULL, "no_area", "faults"), 16 * 3 * 5);
	ck_assert_uint_eq(count_of(&run, "ram", "no_area", "faults"), 0);
	check_events(&run);
	run_free(&run);
}
END_TEST

START_TEST(hostile_guest)
{
	struct run run;
	const char *disk = make_pmem("disk", 64), *pmem = make_pmem("pmem", 64);
	const char *before = copy_file(pmem, "before");

	run_guest(&run, "hostile.elf", "", "--disk", disk, "--pmem", pmem);
	ck_assert(same_files(pmem, before));
	ck_assert(same_files(disk, before));
	run_free(&run);
}
END_TEST

START_TEST(kernel_engine_gives_the_same)
{
	struct run run;
	char append[64], pmem[600];

	snprintf(append, sizeof(append), "%s pages=128", works[_i].append);
	snprintf(pmem, sizeof(pmem), "%s,mode=%s", make_pmem("work", 512),
		 works[_i].mode ? works[_i].mode : "cow");
	run_guest(&run, works[_i].guest, append, "--pmem", pmem, "--fault-engine", "kernel");
	check_events(&run);
	ck_assert_uint_eq(count_of(&run, "pmem0", NULL, "faults"),
			  works[_i].mode && !strcmp(works[_i].mode, "ro")
			      ? count_of(&run, "pmem0", "ro_write", "faults")
			      : 0);
	run_free(&run);
}
END_TEST

#define PAGE 4096UL
#define ALL  512U /* pages of the file: nothing more can be mapped around */

/* Bytes that are in the areas of that name. */
static uint64_t resident_of(const struct run *run, const char *name)
{
	uint64_t bytes = 0;
	json_t *area;
	size_t i;

	json_array_foreach(json_object_get(run->stats, "areas"), i, area)
	{
		if (strcmp(json_string_value(json_object_get(area, "name")), name) == 0)
			bytes += (uint64_t)json_integer_value(json_object_get(area, "resident"));
	}
	return bytes;
}

/* Bytes of the area of work @i that are installed when @pages were touched; the whole file's. */
static uint64_t installed_by(const char *engine, int i, unsigned pages)
{
	char append[64], pmem[600];
	uint64_t bytes;
	struct run run;

	snprintf(append, sizeof(append), "%s pages=%u", works[i].append, pages);
	snprintf(pmem, sizeof(pmem), "%s,mode=%s", make_pmem("work", ALL),
		 works[i].mode ? works[i].mode : "cow");
	run_foal(&run, ARGS("--kernel", guest_path(works[i].guest), "--append", append, "--huge",
			    "never", "--fault-engine", engine, "--pmem", pmem));
	ck_assert_msg(run.status == 0, "%s: status %d: %s", works[i].what, run.status,
		      run.err_text);
	bytes = resident_of(&run, works[i].area);
	run_free(&run);
	return bytes;
}

/*
 * As many pages are there at the end, whoever installed them: all of a file, what is written of
 * RAM (zero pages do not count). Of the kernel's file the host maps what lies around its tables.
 */
START_TEST(engines_install_as_many)
{
	bool file = works[_i].mode, zero = strcmp(works[_i].append, "mode=r") == 0;
	uint64_t ours, host;

	if (strncmp(works[_i].area, "kernel", 6) == 0)
		return;
	ours = installed_by("handler", _i, ALL) - (file ? 0 : installed_by("handler", _i, 1));
	host = installed_by("kernel", _i, ALL) - (file ? 0 : installed_by("kernel", _i, 1));
	ck_assert_uint_eq(ours, file ? ALL * PAGE : zero ? 0 : (ALL - 1) * PAGE);
	ck_assert_uint_eq(host, ours);
}
END_TEST

Suite *cases_suite(void)
{
	const int nr_works = sizeof(works) / sizeof(works[0]);
	Suite *suite = suite_create("cases");
	TCase *tc = tcase_create("handler");

	tcase_set_timeout(tc, TEST_LIMIT);
	if (have_userfaultfd()) {
		tcase_add_loop_test(tc, sixty_four_more, 0, nr_works);
		tcase_add_loop_test(tc, engines_install_as_many, 0, nr_works);
		tcase_add_test(tc, windows_grow_with_sequential_reads);
		tcase_add_test(tc, sequential_writes_are_copied_ahead);
		tcase_add_test(tc, reads_ahead_of_a_sequential_reader);
		tcase_add_test(tc, a_read_far_off_reads_one_window);
		tcase_add_test(tc, window_ends_with_the_file);
		tcase_add_test(tc, the_kernel_is_read_where_it_is_touched);
	}
	suite_add_tcase(suite, tc);
	tc = tcase_create("either");
	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_test(tc, open_bus);
	tcase_add_test(tc, hostile_guest);
	tcase_add_loop_test(tc, kernel_engine_gives_the_same, 0, nr_works);
	suite_add_tcase(suite, tc);
	return suite;
}
