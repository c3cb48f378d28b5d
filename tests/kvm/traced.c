/* --trace: each fault has its line, and the line its case. What a run writes, and where to. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "tests/kvm/runner.h"
#include "tests/kvm/snapshot_rig.h"
#include "tests/kvm/suites.h"
#include "tests/kvm/told.h"

static const struct {
	const char *guest, *append, *mode;
	const char *kase, *access; /* one that is there, for a write or a read */
} works[] = {
    {"anon.elf", "mode=rw", "cow", "anon_wp", "write"},
    {"pmem.elf", "mode=rw", "cow", "file_wp", "write"},
    {"pmem.elf", "mode=rw", "shared", "shared_read", "read"},
    {"pmem.elf", "mode=drop", "ro", "ro_write", "write"},
    {"bus.elf", "holes=4", "cow", "no_area", "read"},
};

/* Lines of @kase (NULL: all); each is an object that has all there is to say. */
static uint64_t lines_of(char *text, const char *kase, const char *access, bool *seen)
{
	uint64_t lines = 0;
	char *save;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		const char *is, *area, *gpa, *how, *origin;
		json_int_t at, took, error, installed, bytes;
		json_t *fault = json_loads(line, 0, NULL);
		int major;

		ck_assert_msg(
		    fault && !json_unpack_ex(
				 fault, NULL, JSON_STRICT, "{sI ss ss ss ss ss sI sI sb sI sI}",
				 "at_ns", &at, "case", &is, "area", &area, "gpa", &gpa, "access",
				 &how, "origin", &origin, "took_ns", &took, "error", &error,
				 "major", &major, "installed", &installed, "bytes_read", &bytes),
		    "not a fault: %s", line);
		lines += !kase || strcmp(is, kase) == 0;
		*seen |= kase && strcmp(is, kase) == 0 && strcmp(how, access) == 0 &&
			 (strcmp(kase, "no_area") == 0) == !area[0];
		json_decref(fault);
	}
	return lines;
}

static uint64_t lines_in(const char *path, const char *kase, const char *access, bool *seen)
{
	size_t len;
	char *text = read_file(path, &len);
	uint64_t lines = lines_of(text, kase, access, seen);

	free(text);
	return lines;
}

START_TEST(a_line_a_fault)
{
	const char *path = scratch("trace");
	bool seen = false;
	char pmem[600];
	struct run run;

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	snprintf(pmem, sizeof(pmem), "%s,mode=%s", make_pmem("traced", 128), works[_i].mode);
	run_foal(&run, ARGS("--kernel", guest_path(works[_i].guest), "--append", works[_i].append,
			    "--pmem", pmem, "--fault-engine", "handler", "--trace", path));
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	ck_assert_uint_eq(lines_in(path, NULL, NULL, &seen), count_of(&run, NULL, NULL, "faults"));
	ck_assert_uint_eq(lines_in(path, works[_i].kase, works[_i].access, &seen),
			  count_of(&run, NULL, works[_i].kase, "faults"));
	ck_assert(seen);
	run_free(&run);
}
END_TEST

static void limit_file_size(void *arg)
{
	const rlim_t *most = arg;

	setrlimit(RLIMIT_FSIZE, &(struct rlimit){*most, *most});
}

/* Where no more can be written the trace ends, and the guest goes on. */
START_TEST(cannot_be_written)
{
	struct run_how how = {.prepare = limit_file_size, .arg = &(rlim_t){128 << 10}};
	struct run run;

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	run_foal(&run, ARGS("--kernel", guest_path("exit.elf"), "--trace", "/nowhere/at/all"));
	expect_end(&run, 100, "--trace /nowhere/at/all: No such file or directory");
	run_free(&run);
	run_start(&run, &how,
		  ARGS("--kernel", guest_path("anon.elf"), "--append", "mode=w pages=2000",
		       "--fault-engine", "handler", "--huge", "never", "--trace",
		       scratch("trace")));
	run_wait(&run);
	expect_end(&run, 0, "trace ends early: File too large");
	check_events(&run);
	run_free(&run);
}
END_TEST

/* What a run writes begins empty. */
static const char *const outputs[] = {"--trace", "--stats-file"};
#define OUTPUTS (int)(sizeof(outputs) / sizeof(outputs[0]))

static const struct {
	const char *option, *behind;
} own[] = {{"--pmem", ""}, {"--pmem", ",mode=ro"}, {"--disk", ",mode=shared"}, {"--initrd", ""}};
#define OWN (int)(sizeof(own) / sizeof(own[0]))

/* A file that the VM is made of is not taken for one of these. */
START_TEST(a_file_of_its_own)
{
	const char *path = make_pmem("own", 16);
	struct run_how how = {.plain = true};
	size_t before, after;
	char file[600];
	char *was = read_file(path, &before), *is;
	struct run run;

	snprintf(file, sizeof(file), "%s%s", path, own[_i % OWN].behind);
	run_start(&run, &how,
		  ARGS("run", "--kernel", guest_path("exit.elf"), own[_i % OWN].option, file,
		       outputs[_i / OWN], path));
	run_wait(&run);
	expect_end(&run, 100, ": a file that a VM uses; name another");
	run_free(&run);
	is = read_file(path, &after);
	ck_assert_uint_eq(after, before);
	ck_assert(memcmp(is, was, before) == 0);
	free(is);
	free(was);
}
END_TEST

/* Nor what another VM writes. */
START_TEST(one_of_another)
{
	const char *path = scratch("output");
	struct run_how how = {.plain = true};
	struct run first, second;

	run_start(&first, &how,
		  ARGS("run", "--kernel", guest_path("loop.elf"), "--append", "how=spin",
		       outputs[_i], path));
	run_until(&first, "ready\n");
	run_start(&second, &how,
		  ARGS("run", "--kernel", guest_path("exit.elf"), outputs[_i], path));
	run_wait(&second);
	expect_end(&second, 100, ": a file that a VM uses; name another");
	run_free(&second);
	kill(first.pid, SIGTERM);
	run_wait(&first);
	run_free(&first);
}
END_TEST

/* Nor a part of the snapshot that a VM is brought back from, or of the one below. */
START_TEST(a_part_of_a_snapshot)
{
	static const char *const parts[] = {"whole/memory", "diff/manifest.json"};
	const char *whole = scratch("whole"), *diff = scratch("diff");
	struct run run;

	if (!have_userfaultfd())
		skip("no userfaultfd");
	pid_t pid = background("traced", ARGS("--kernel", guest_path("loop.elf"), "--append",
					      "how=spin", "--memory", "16M"));
	snapshot("traced", whole);
	expect_command(ARGS("snapshot", "traced", diff, "--diff"), 0, "paused for");
	kill_and_wait(pid);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		foal_command(&run, ARGS("restore", diff, outputs[_i], scratch("%s", parts[i])));
		expect_end(&run, 100, ": a file that a VM uses; name another");
		run_free(&run);
	}
	expect_command(ARGS("verify", diff), 0, "whole");
}
END_TEST

Suite *traced_suite(void)
{
	Suite *suite = suite_create("traced");
	TCase *tc = tcase_create("traced");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, NULL, end_all);
	tcase_add_loop_test(tc, a_line_a_fault, 0, sizeof(works) / sizeof(works[0]));
	tcase_add_test(tc, cannot_be_written);
	tcase_add_loop_test(tc, a_file_of_its_own, 0, OUTPUTS * OWN);
	tcase_add_loop_test(tc, one_of_another, 0, OUTPUTS);
	tcase_add_loop_test(tc, a_part_of_a_snapshot, 0, OUTPUTS);
	suite_add_tcase(suite, tc);
	return suite;
}
