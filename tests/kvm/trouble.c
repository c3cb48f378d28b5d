/* Guests that crash or never end, files that fail while the guest runs. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tests/kvm/guests/lib/pattern.h"
#include "tests/kvm/runner.h"
#include "tests/kvm/sandbox.h"
#include "tests/kvm/suites.h"

static const struct {
	const char *append, *words;
} crashes[] = {
    {"how=triple", "the guest ended in a triple fault (rip 0x"},
    {"how=table", "the guest ended in a triple fault (rip 0x"},
    {"how=nowhere", "rip 0xc8000000"},
};

/* One line says what happened; the registers may follow it. */
START_TEST(crash)
{
	struct run run;

	run_foal(&run, ARGS("--kernel", guest_path("crash.elf"), "--append", crashes[_i].append,
			    "--name", "crash-test"));
	ck_assert_msg(run.status == 105, "status %d: %s", run.status, run.err_text);
	ck_assert_ptr_nonnull(strstr(run.err_text, crashes[_i].words));
	ck_assert_ptr_nonnull(strstr(run.err_text, "foal: crash-test: vCPU 0: "));
	run_free(&run);
}
END_TEST

static const char *const endless[] = {
    "how=spin", "how=halt", "how=pmem mode=r", "how=pmem mode=w", "how=anon",
};

#define NR_ENDLESS (int)(sizeof(endless) / sizeof(endless[0]))

static const char *const engines[] = {"handler", "kernel"};

/* Start the endless guest of test @i, half of them on each engine. */
static void start_endless(struct run *run, int i, const char *limit)
{
	const char *engine = engines[i / NR_ENDLESS];

	if (i < NR_ENDLESS && !have_userfaultfd())
		skip("no userfaultfd here");
	run_start(run, NULL,
		  ARGS("--kernel", guest_path("loop.elf"), "--append", endless[i % NR_ENDLESS],
		       "--pmem", make_pmem("pmem", 512), "--fault-engine", engine, "--time-limit",
		       limit));
}

/*
 * Stuck: one line says so, and the registers that follow say where. A slow host may need
 * longer than the shortest limit to get the guest there.
 */
START_TEST(time_limit)
{
	static const char *const limits[] = {"1", "4", "16", "64"};
	struct run run;
	char line[64];

	for (unsigned i = 0;; i++) {
		start_endless(&run, _i, limits[i]);
		run_wait(&run);
		ck_assert_msg(run.status == 108, "status %d: %s", run.status, run.err_text);
		snprintf(line, sizeof(line), ": still running after %s s (--time-limit)\n",
			 limits[i]);
		ck_assert_ptr_nonnull(strstr(run.err_text, line));
		if (strstr(run.out_text, "ready\n") || i == 3)
			break;
		run_free(&run);
	}
	ck_assert_str_eq(run.out_text, "ready\n");
	ck_assert_ptr_nonnull(strstr(run.err_text, "foal:   rip 0000000000100"));
	run_free(&run);
}
END_TEST

START_TEST(ended_by_sigterm)
{
	struct run run;

	start_endless(&run, _i, GUEST_LIMIT);
	run_until(&run, "ready\n");
	kill(run.pid, SIGTERM);
	run_wait(&run);
	expect_end(&run, 128 + SIGTERM, "ended by signal 15");
	if (_i < NR_ENDLESS)
		check_events(&run);
	run_free(&run);
}
END_TEST

static const int signals[] = {SIGINT, SIGHUP, SIGQUIT};

START_TEST(ended_by_signal)
{
	struct run run;

	start_endless(&run, NR_ENDLESS, GUEST_LIMIT);
	run_until(&run, "ready\n");
	kill(run.pid, signals[_i]);
	run_wait(&run);
	expect_end(&run, 128 + signals[_i], "ended by signal");
	run_free(&run);
}
END_TEST

/* --halt exit: a halted vCPU gives its processor back, and the run still ends. */
START_TEST(halt_exit)
{
	struct run run;

	run_start(
	    &run, NULL,
	    ARGS("--kernel", guest_path("loop.elf"), "--append", "how=halt", "--halt", "exit"));
	run_until(&run, "ready\n");
	kill(run.pid, SIGTERM);
	run_wait(&run);
	expect_end(&run, 128 + SIGTERM, "ended by signal 15");
	run_free(&run);
}
END_TEST

static const struct {
	const char *mode, *engine, *append;
} shrinking[] = {
    {"cow", "handler", "how=pmem mode=r"},    {"ro", "handler", "how=pmem mode=r"},
    {"shared", "handler", "how=pmem mode=r"}, {"shared", "handler", "how=pmem mode=w"},
    {"cow", "kernel", "how=pmem mode=r"},     {"cow", "kernel", "how=pmem mode=w"},
    {"shared", "kernel", "how=pmem mode=r"},  {"cow", "auto", "how=pmem mode=r"},
    {"ro", "auto", "how=pmem mode=r"},	      {"shared", "auto", "how=pmem mode=w"},
};

/* The file of a pmem is cut short under the guest: it ends, and says which file it was. */
START_TEST(pmem_shrinks)
{
	struct run run;
	char pmem[600];
	const char *path = make_pmem("shrinking.img", 16384);

	if (strcmp(shrinking[_i].engine, "handler") == 0 && !have_userfaultfd())
		skip("no userfaultfd here");
	snprintf(pmem, sizeof(pmem), "%s,mode=%s", path, shrinking[_i].mode);
	run_start(&run, NULL,
		  ARGS("--kernel", guest_path("loop.elf"), "--append", shrinking[_i].append,
		       "--pmem", pmem, "--fault-engine", shrinking[_i].engine));
	run_until(&run, "ready\n");
	ck_assert_int_eq(truncate(path, 4096 * 16), 0);
	run_wait(&run);
	ck_assert_msg(run.status == 106 || run.status == 108, "status %d: %s", run.status,
		      run.err_text);
	ck_assert_msg(strstr(run.err_text, "shrinking.img") != NULL, "%s", run.err_text);
	ck_assert_uint_ge(foal_lines(&run), 1);
	run_free(&run);
}
END_TEST

/* The same with a file that is read page by page: the fault that comes too late says so. */
START_TEST(unread_page_is_gone)
{
	struct run run;
	const char *path = make_pmem("gone.img", 512);

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	run_start(&run, NULL, ARGS("--kernel", guest_path("echo.elf"), "--pmem", path));
	run_until(&run, "ready\n");
	ck_assert_int_eq(truncate(path, 0), 0);
	run_wait(&run);
	expect_end(&run, 106, "gone.img");
	run_free(&run);
}
END_TEST

/* Another file takes the path: the one that was opened goes on to serve the guest. */
START_TEST(replaced_under_the_vm)
{
	struct run run;
	const char *path = make_pmem("replaced.img", 512);
	char word[4096] = "x";

	if (_i == 0 && !have_userfaultfd())
		skip("no userfaultfd here");
	run_start(&run, NULL,
		  ARGS("--kernel", guest_path("pmem.elf"), "--append", "mode=r pages=512 wait=1",
		       "--pmem", path, "--fault-engine", engines[_i]));
	run_until(&run, "waiting\n");
	write_file(scratch("other"), word, sizeof(word));
	ck_assert_int_eq(rename(scratch("other"), path), 0);
	run_type(&run, "x", 1);
	run_wait(&run);
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	run_free(&run);
}
END_TEST

/* No room in the filesystem under a shared pmem: the guest's flush fails, and so does the run. */
START_TEST(full_disk)
{
	struct run run;
	char pmem[600];
	const char *path;

	if (!is_root())
		skip("only root can mount a small filesystem");
	if (_i == 0 && !have_userfaultfd())
		skip("no userfaultfd here");
	mount_private_tmpfs(scratch("small"), "64k");
	path = scratch("small/sparse.img");
	write_file(path, "", 0);
	ck_assert_int_eq(truncate(path, 1 << 20), 0);
	snprintf(pmem, sizeof(pmem), "%s,mode=shared", path);
	run_foal(&run,
		 ARGS("--kernel", guest_path("pmem.elf"), "--append", "mode=w pages=128 flush=fail",
		      "--pmem", pmem, "--fault-engine", engines[_i]));
	ck_assert_msg(run.status == 107, "status %d: %s", run.status, run.err_text);
	ck_assert_ptr_nonnull(strstr(run.err_text, "No space left on device"));
	ck_assert_ptr_nonnull(strstr(run.err_text, "sparse.img"));
	if (_i == 0) /* the kernel's engine does not know */
		ck_assert_uint_gt(area_number(&run, "pmem0", "dirty"), 0);
	run_free(&run);
}
END_TEST

/* Room comes back between a failed flush and the end: nothing is lost after all. */
START_TEST(disk_full_for_a_while)
{
	struct run run;
	char pmem[600], filler[49152] = "";
	const char *path;

	if (!is_root())
		skip("only root can mount a small filesystem");
	if (_i == 0 && !have_userfaultfd())
		skip("no userfaultfd here");
	mount_private_tmpfs(scratch("small"), "1m");
	path = scratch("small/sparse.img");
	write_file(path, "", 0);
	ck_assert_int_eq(truncate(path, 1 << 20), 0);
	for (int i = 0; i < 20; i++)
		write_file(scratch("small/filler-%d", i), filler, sizeof(filler));
	snprintf(pmem, sizeof(pmem), "%s,mode=shared", path);
	run_start(&run, NULL,
		  ARGS("--kernel", guest_path("pmem.elf"), "--append",
		       "mode=w pages=128 flush=fail then=loop", "--pmem", pmem, "--fault-engine",
		       engines[_i]));
	run_until(&run, "ready\n");
	for (int i = 0; i < 20; i++)
		unlink(scratch("small/filler-%d", i));
	kill(run.pid, SIGTERM);
	run_wait(&run);
	ck_assert_msg(run.status == 128 + SIGTERM, "status %d: %s", run.status, run.err_text);
	for (unsigned n = 0; n < 128; n++)
		ck_assert_uint_eq(page_word(path, n), GUEST_PATTERN(n));
	run_free(&run);
}
END_TEST

/* Nobody reads the console any more: the guest goes on. */
START_TEST(console_reader_gone)
{
	struct run run;

	run_start(&run, NULL, ARGS("--kernel", guest_path("flood.elf"), "--append", "bytes=20000"));
	close(run.out);
	run.out = -1;
	run_wait(&run);
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	run_free(&run);
}
END_TEST

/* Somebody holds the console but does not read: the guest waits, a signal still ends it. */
START_TEST(console_reader_asleep)
{
	struct run run;
	int held = 0;

	run_start(&run, NULL,
		  ARGS("--kernel", guest_path("flood.elf"), "--append", "bytes=100000000"));
	fcntl(run.out, F_SETPIPE_SZ, 4096);
	run_until(&run, "0123456789");
	/* Written to as long as one of its pages has no byte. */
	while (held <= fcntl(run.out, F_GETPIPE_SZ) - 4096) {
		poll(NULL, 0, 1);
		ck_assert_int_eq(ioctl(run.out, FIONREAD, &held), 0);
	}
	kill(run.pid, SIGTERM);
	run_wait(&run);
	expect_end(&run, 128 + SIGTERM, "ended by signal 15");
	run_free(&run);
}
END_TEST

Suite *trouble_suite(void)
{
	Suite *suite = suite_create("trouble");
	TCase *tc = tcase_create("trouble");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_loop_test(tc, crash, 0, sizeof(crashes) / sizeof(crashes[0]));
	tcase_add_loop_test(tc, time_limit, 0, 2 * NR_ENDLESS);
	tcase_add_loop_test(tc, ended_by_sigterm, 0, 2 * NR_ENDLESS);
	tcase_add_loop_test(tc, ended_by_signal, 0, sizeof(signals) / sizeof(signals[0]));
	tcase_add_test(tc, halt_exit);
	tcase_add_loop_test(tc, pmem_shrinks, 0, sizeof(shrinking) / sizeof(shrinking[0]));
	tcase_add_test(tc, unread_page_is_gone);
	tcase_add_loop_test(tc, replaced_under_the_vm, 0, 2);
	tcase_add_loop_test(tc, full_disk, 0, 2);
	tcase_add_loop_test(tc, disk_full_for_a_while, 0, 2);
	tcase_add_test(tc, console_reader_gone);
	tcase_add_test(tc, console_reader_asleep);
	suite_add_tcase(suite, tc);
	return suite;
}
