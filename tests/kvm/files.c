/* What is in the files after a run, for each way to treat writes and both engines. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/kvm/guests/lib/pattern.h"
#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

#define PAGES 96

static const struct way {
	const char *mode, *engine;
	bool reaches_file;
} ways[] = {
    {"cow", "handler", false},
    {"shared", "handler", true},
    {"cow", "kernel", false},
    {"shared", "kernel", true},
};

/* Way @i, if this host has its engine. */
static const struct way *use_way(int i)
{
	if (strcmp(ways[i].engine, "handler") == 0 && !have_userfaultfd())
		skip("no userfaultfd here");
	return &ways[i];
}

static void run_pmem(struct run *run, const char *path, const struct way *way, const char *append)
{
	char pmem[600];

	snprintf(pmem, sizeof(pmem), "%s,mode=%s", path, way->mode);
	run_guest(run, "pmem.elf", append, "--pmem", pmem, "--fault-engine", way->engine);
}

/* Every other page is written: only those may change, and only where writes are shared. */
START_TEST(writes_reach_the_file_or_not)
{
	struct run run;
	const struct way *way = use_way(_i);
	const char *path = make_pmem("file", PAGES);

	run_pmem(&run, path, way,
		 _i % 2 ? "mode=rw pages=48 stride=2" : "mode=w pages=48 stride=2");
	for (unsigned n = 0; n < PAGES; n++) {
		bool written = way->reaches_file && n % 2 == 0;
		ck_assert_uint_eq(page_word(path, n), written ? GUEST_PATTERN(n) : FILE_PATTERN(n));
	}
	run_free(&run);
}
END_TEST

START_TEST(untouched_by_cow)
{
	struct run run;
	const struct way *way = use_way(_i * 2);
	const char *path = make_pmem("file", PAGES), *before = copy_file(path, "before");

	run_pmem(&run, path, way, "mode=rw pages=96 flush=1");
	ck_assert(same_files(path, before));
	run_free(&run);
}
END_TEST

/* The file ends inside a page: zeros behind, and its size stays what it was. */
START_TEST(tail)
{
	struct run run;
	const struct way *way = use_way(_i);
	const char *path = make_pmem("file", PAGES);
	size_t len;

	ck_assert_int_eq(truncate(path, (PAGES - 1) * 4096 + 512), 0);
	run_pmem(&run, path, way, "mode=rw pages=96 tail=512");
	char *data = read_file(path, &len);
	ck_assert_uint_eq(len, (PAGES - 1) * 4096 + 512);
	ck_assert_uint_eq(page_word(path, PAGES - 1),
			  way->reaches_file ? GUEST_PATTERN(PAGES - 1) : FILE_PATTERN(PAGES - 1));
	free(data);
	run_free(&run);
}
END_TEST

/* A guest on engine @i that has written and flushed shared pmem, and goes on; pmem's file. */
static const char *start_flushed(struct run *run, int i, const char *append)
{
	const struct way *way = use_way(i * 2 + 1);
	char pmem[600];
	const char *path = make_pmem("file", PAGES);

	snprintf(pmem, sizeof(pmem), "%s,mode=shared", path);
	run_start(run, NULL,
		  ARGS("--kernel", guest_path("pmem.elf"), "--append", append, "--pmem", pmem,
		       "--fault-engine", way->engine));
	run_until(run, "ready\n");
	return path;
}

/* A flush makes the writes before it durable; nothing after it has to be. */
START_TEST(flushed_survives_a_kill)
{
	struct run run;
	const char *path = start_flushed(&run, _i, "mode=w pages=96 flush=1 then=loop");

	ck_assert_int_eq(kill(run.pid, SIGKILL), 0);
	run_wait(&run);
	ck_assert_int_eq(run.status, -SIGKILL);
	for (unsigned n = 0; n < PAGES; n++)
		ck_assert_uint_eq(page_word(path, n), GUEST_PATTERN(n));
	run_free(&run);
}
END_TEST

/* What is written after a flush is in the file when the run ends in order. */
START_TEST(written_back_at_the_end)
{
	struct run run;
	const char *path = start_flushed(&run, _i, "mode=w pages=96 flush=1 then=dirty");

	ck_assert_uint_ne(page_word(path, 0), ~0UL);
	ck_assert_int_eq(kill(run.pid, SIGTERM), 0);
	run_wait(&run);
	ck_assert_int_eq(run.status, 128 + SIGTERM);
	ck_assert_uint_eq(page_word(path, 0), ~0UL);
	ck_assert_uint_eq(page_word(path, 1), GUEST_PATTERN(1));
	ck_assert_uint_eq(area_number(&run, "pmem0", "dirty"), 0);
	run_free(&run);
}
END_TEST

/* Two files in one VM are not mixed up. */
START_TEST(two_files)
{
	struct run run;
	char first[600], second[600];

	snprintf(first, sizeof(first), "%s,mode=shared", make_pmem("first", PAGES));
	snprintf(second, sizeof(second), "%s,mode=shared", make_pmem("second", PAGES));
	run_guest(&run, "pmem.elf", "device=1 mode=w pages=96", "--pmem", first, "--pmem", second);
	ck_assert_uint_eq(page_word(scratch("first"), 5), FILE_PATTERN(5));
	ck_assert_uint_eq(page_word(scratch("second"), 5), GUEST_PATTERN(5));
	run_free(&run);
}
END_TEST

Suite *files_suite(void)
{
	Suite *suite = suite_create("files");
	TCase *tc = tcase_create("files");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_loop_test(tc, writes_reach_the_file_or_not, 0, 4);
	tcase_add_loop_test(tc, untouched_by_cow, 0, 2);
	tcase_add_loop_test(tc, tail, 0, 4);
	tcase_add_loop_test(tc, flushed_survives_a_kill, 0, 2);
	tcase_add_loop_test(tc, written_back_at_the_end, 0, 2);
	tcase_add_test(tc, two_files);
	suite_add_tcase(suite, tc);
	return suite;
}
