/*
 * A guest whose working set is twice its memory limit; on an emulated host, where each page
 * is a fault of a millisecond, a little more than that, and less often.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/kvm/guests/lib/pattern.h"
#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

#define LIMIT (16UL << 20)
#define PAGES 8192U /* 32 MiB */
#define FEW   4608U /* 18 MiB */
#define PAGE  4096UL

static const char *make_file(void)
{
	return make_random_pmem("limit-pmem", PAGES);
}

static const struct {
	const char *what, *append, *mode; /* mode NULL: RAM */
	bool swap;
	const char *counts[4]; /* what must not be 0 */
} sets[] = {
    {"RAM", "", NULL, true, {"compressed", "refaults", "sampled"}},
    {"private copies", "where=pmem", "cow", true, {"written", "read", "refaults", "dropped"}},
    {"shared file", "where=pmem flush=1", "shared", false, {"dropped", "syncs", "refaults"}},
};

static void skip_without_userfaultfd(void)
{
	if (!have_userfaultfd())
		skip("memory limit: no userfaultfd here");
}

/* Of the working set; all of them are touched again at least once. */
static unsigned pages_here(void)
{
	return emulated_host() ? FEW : PAGES;
}

static unsigned passes_here(void)
{
	return emulated_host() ? 2 : 3;
}

/* What the guest is told of its working set, and @more. In a buffer of the test's. */
static const char *working_set(const char *more)
{
	static char append[128];

	snprintf(append, sizeof(append), "pages=%u passes=%u %s", pages_here(), passes_here(),
		 more);
	return append;
}

START_TEST(twice_the_limit)
{
	const char *swap = scratch("limit-swap");
	const char *file = sets[_i].mode ? make_file() : NULL;
	const char *args[16] = {"--kernel",	  guest_path("working-set.elf"),
				"--append",	  working_set(sets[_i].append),
				"--memory-limit", "16M"};
	unsigned n = 6;
	char pmem[600];
	struct run run;

	skip_without_userfaultfd();
	if (file) {
		snprintf(pmem, sizeof(pmem), "%s,mode=%s", file, sets[_i].mode);
		args[n++] = "--pmem";
		args[n++] = pmem;
	}
	if (sets[_i].swap) {
		args[n++] = "--swap";
		args[n++] = swap;
	}
	run_foal(&run, args);
	ck_assert_msg(run.status == 0, "%s: status %d: %s", sets[_i].what, run.status,
		      run.err_text);
	check_events(&run);
	ck_assert_uint_le(stats_number(&run, "reclaim", "peak"), LIMIT + LIMIT / 50);
	ck_assert_uint_le(stats_number(&run, "resident", "guest"), LIMIT + LIMIT / 50);
	for (int c = 0; c < 4 && sets[_i].counts[c]; c++)
		ck_assert_msg(stats_number(&run, "reclaim", sets[_i].counts[c]) > 0, "%s: no %s",
			      sets[_i].what, sets[_i].counts[c]);
	if (file) {
		bool shared = !strcmp(sets[_i].mode, "shared");

		for (unsigned page = 0; page < pages_here(); page++)
			ck_assert_uint_eq(page_word(file, page),
					  FILE_PATTERN(page) + (shared ? passes_here() : 0));
	}
	ck_assert_int_ne(access(swap, F_OK), 0); /* nothing is left of it */
	run_free(&run);
}
END_TEST

/* Two processors add to the same words while their pages come and go. */
START_TEST(two_processors)
{
	struct run run;

	skip_without_userfaultfd();
	run_foal(&run,
		 ARGS("--kernel", guest_path("smp.elf"), "--append", working_set(""), "--cpus", "2",
		      "--memory-limit", "16M", "--swap", scratch("limit-swap")));
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	check_events(&run);
	ck_assert_uint_gt(stats_number(&run, "reclaim", "refaults"), 0);
	ck_assert_uint_le(stats_number(&run, "reclaim", "peak"), LIMIT + LIMIT / 50);
	run_free(&run);
}
END_TEST

START_TEST(cannot_be_held)
{
	struct run run;

	skip_without_userfaultfd();
	run_foal(&run, ARGS("--kernel", guest_path("working-set.elf"), "--append", working_set(""),
			    "--memory-limit", "16M"));
	expect_end(&run, 106, "the memory limit of 16 MiB cannot be held: what is left is no page");
	run_free(&run);
	run_foal(&run, ARGS("--kernel", guest_path("working-set.elf"), "--append",
			    working_set("where=pmem"), "--pmem", make_file(), "--memory-limit",
			    "16M", "--swap", scratch("tiny-swap,size=1M")));
	expect_end(&run, 106, "tiny-swap is full; give it more than 1 MiB");
	run_free(&run);
	run_foal(&run, ARGS("--kernel", guest_path("working-set.elf"), "--append",
			    working_set("where=pmem"), "--pmem", make_file(), "--memory-limit",
			    "16M", "--swap", scratch("less-swap,size=64K")));
	expect_end(&run, 106, "less-swap is full; give it more than 1 MiB");
	run_free(&run);
}
END_TEST

/* With disk I/O under way: what it touches comes above the limit, so that it ends as a run does. */
START_TEST(ends_in_order)
{
	struct run run;

	skip_without_userfaultfd();
	if (access(image_path("kernel.elf"), R_OK) || access(image_path("disk.img"), R_OK))
		skip("no guest kernel or images here");
	run_foal(&run, ARGS("--kernel", image_path("kernel.elf"), "--disk", image_path("disk.img"),
			    "--append", "quiet root=/dev/vda init=/bin/main", "--memory-limit",
			    "16M", "--stats", "json"));
	expect_end(&run, 106, "the memory limit of 16 MiB cannot be held");
	ck_assert_ptr_null(strstr(run.err_text, "without waiting for what hangs"));
	check_events(&run);
	run_free(&run);
}
END_TEST

static void limit_file_size(void *arg)
{
	struct rlimit limit = {*(rlim_t *)arg, *(rlim_t *)arg};

	setrlimit(RLIMIT_FSIZE, &limit);
}

/* The disk under the swap file takes no more (it does take the page cache's memfd): said once, and
 * the limit's end is its end. */
START_TEST(swap_file_fails)
{
	struct run_how how = {.prepare = limit_file_size, .arg = &(rlim_t){33UL << 20}};
	struct run run;

	skip_without_userfaultfd();
	if (emulated_host())
		skip("memory limit: a swap file of 33 MiB takes minutes on an emulated host");
	run_start(&run, &how,
		  ARGS("--kernel", guest_path("working-set.elf"), "--append",
		       "pages=8192 passes=4 where=pmem", "--pmem", make_file(), "--memory-limit",
		       "16M", "--swap", scratch("limit-swap")));
	run_wait(&run);
	ck_assert_int_eq(run.status, 106);
	ck_assert_ptr_nonnull(strstr(run.err_text, "limit-swap: File too large; mend that"));
	ck_assert_uint_le(foal_lines(&run), 2);
	run_free(&run);
}
END_TEST

/* What is in a file that was named by mistake stays there. */
START_TEST(swap_file_not_empty)
{
	const char *path = make_pmem("limit-precious", 1);
	struct run run;

	run_foal(&run,
		 ARGS("--kernel", guest_path("exit.elf"), "--memory-limit", "16M", "--swap", path));
	expect_end(&run, 103, "precious: not empty");
	ck_assert_uint_eq(page_word(path, 0), FILE_PATTERN(0));
	run_free(&run);
	write_file(path, "", 0);
	run_guest(&run, "exit.elf", "", "--memory-limit", "16M", "--swap", path);
	ck_assert_int_eq(access(path, F_OK), 0);
	run_free(&run);
}
END_TEST

/* The bound that was meant would be lost, and nobody would see it. */
START_TEST(swap_size_misspelt)
{
	const char *path = scratch("limit-misspelt,sise=1M");
	struct run run;

	run_foal(&run,
		 ARGS("--kernel", guest_path("exit.elf"), "--memory-limit", "16M", "--swap", path));
	expect_end(&run, 103, "only size= is an option");
	ck_assert_int_eq(access(path, F_OK), -1);
	run_free(&run);
}
END_TEST

static bool has_ended(const struct run *run)
{
	siginfo_t info = {0};

	return waitid(P_PID, (id_t)run->pid, &info, WEXITED | WNOHANG | WNOWAIT) || info.si_pid;
}

/* It is open: who deletes it while a VM swaps frees its room at the VM's end, and does no more. */
START_TEST(swap_file_deleted)
{
	const char *path = scratch("limit-deleted");
	struct run run;
	struct stat st;

	skip_without_userfaultfd();
	write_file(path, "", 0);
	run_start(&run, &(struct run_how){0},
		  ARGS("--kernel", guest_path("working-set.elf"), "--append",
		       working_set("where=pmem"), "--pmem", make_file(), "--memory-limit", "16M",
		       "--swap", path));
	while (stat(path, &st) == 0 && !st.st_size && !has_ended(&run))
		usleep(1000);
	ck_assert_int_eq(unlink(path), 0);
	run_wait(&run);
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	ck_assert_uint_gt(stats_number(&run, "reclaim", "read"), 0);
	ck_assert_uint_eq(foal_lines(&run), 0);
	ck_assert_int_ne(access(path, F_OK), 0);
	run_free(&run);
}
END_TEST

Suite *memory_limit_suite(void)
{
	Suite *suite = suite_create("memory_limit");
	TCase *tc = tcase_create("memory limit");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_loop_test(tc, twice_the_limit, 0, sizeof(sets) / sizeof(sets[0]));
	tcase_add_test(tc, two_processors);
	tcase_add_test(tc, cannot_be_held);
	tcase_add_test(tc, ends_in_order);
	tcase_add_test(tc, swap_file_fails);
	tcase_add_test(tc, swap_file_not_empty);
	tcase_add_test(tc, swap_size_misspelt);
	tcase_add_test(tc, swap_file_deleted);
	suite_add_tcase(suite, tc);
	return suite;
}
