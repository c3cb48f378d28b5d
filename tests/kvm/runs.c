/* Runs that end well, or as the guest wants. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "tests/kvm/guests/lib/pattern.h"
#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

/* What the guest writes to the exit port, and what becomes of it. */
static const struct {
	const char *append;
	int status;
} statuses[] = {
    {"status=0", 0},   {"status=1", 1},	   {"status=42", 42},
    {"status=99", 99}, {"status=100", 99}, {"status=255", 99},
};

START_TEST(exit_status)
{
	struct run run;

	run_foal(&run, ARGS("--kernel", guest_path("exit.elf"), "--append", statuses[_i].append));
	ck_assert_int_eq(run.status, statuses[_i].status);
	ck_assert_uint_eq(foal_lines(&run), 0);
	run_free(&run);
}
END_TEST

START_TEST(command_line)
{
	struct run run;

	run_guest(&run, "exit.elf", "say=cmdline -- a  b=\"c\"", NULL, NULL, NULL, NULL);
	ck_assert_str_eq(run.out_text, "say=cmdline -- a  b=\"c\"\n");
	run_free(&run);
}
END_TEST

/* The longest command line that fits, and one byte more. */
START_TEST(command_line_limit)
{
	struct run run;
	static char line[4097];

	memset(line, 'x', 4096);
	line[4095] = 0;
	run_guest(&run, "exit.elf", line, NULL, NULL, NULL, NULL);
	run_free(&run);
	line[4095] = 'x';
	expect_refusal(ARGS("--kernel", guest_path("exit.elf"), "--append", line), 100,
		       "--append: 4096 bytes; this kernel takes 4095");
}
END_TEST

static const struct {
	const char *memory, *append;
	uint64_t bytes;
} memories[] = {
    {"2M", "ram=0x200000", 2UL << 20},	       {"2052K", "ram=0x201000", 2052UL << 10},
    {"256M", "ram=0x10000000", 256UL << 20},   {"3G", "ram=0xc0000000", 3UL << 30},
    {"3076M", "ram=0xc0400000", 3076UL << 20}, {"8G", "ram=0x200000000", 8UL << 30},
};

/* The guest is told of all its memory, and none of it is there until it is touched. */
START_TEST(memory_size)
{
	struct run run;
	struct sysinfo si;

	ck_assert_int_eq(sysinfo(&si), 0);
	if (memories[_i].bytes > (uint64_t)si.totalram * si.mem_unit)
		skip("this machine has less memory than the guest would");
	run_guest(&run, "exit.elf", memories[_i].append, "--memory", memories[_i].memory, NULL,
		  NULL);
	json_t *resident = json_object_get(json_object_get(run.stats, "resident"), "guest");
	ck_assert_int_lt(json_integer_value(resident), 1 << 20);
	ck_assert_uint_eq(json_integer_value(json_object_get(run.stats, "memory")),
			  memories[_i].bytes);
	check_events(&run);
	run_free(&run);
}
END_TEST

/* RAM on both sides of the gap: the last pages of each work. */
START_TEST(memory_edges)
{
	struct run run;
	struct sysinfo si;

	ck_assert_int_eq(sysinfo(&si), 0);
	if ((uint64_t)si.totalram * si.mem_unit < 4UL << 30)
		skip("this machine has less memory than the guest would");
	run_guest(&run, "anon.elf", "mode=rw base=0xbffe0000 pages=32", "--memory", "4G",
		  "--fault-engine", "handler");
	ck_assert_uint_eq(count_of(&run, "ram", "anon_wp", "faults"), 32);
	run_free(&run);
	run_guest(&run, "anon.elf", "mode=rw base=0x13ffe0000 pages=32", "--memory", "4G",
		  "--fault-engine", "handler");
	ck_assert_uint_eq(count_of(&run, "ram-high", "anon_wp", "faults"), 32);
	run_free(&run);
}
END_TEST

static const struct {
	unsigned size;
	const char *append;
} initrds[] = {{1, "initrd=1"}, {4096, "initrd=4096"}, {5000, "initrd=5000"}};

START_TEST(initrd)
{
	struct run run;
	char data[5000];
	const char *path = scratch("initrd-%d", _i);

	memset(data, 0x5a, sizeof(data));
	write_file(path, data, initrds[_i].size);
	run_guest(&run, "exit.elf", initrds[_i].append, "--initrd", path, NULL, NULL);
	ck_assert_uint_eq(file_read(&run, "initrd"), initrds[_i].size);
	run_free(&run);
}
END_TEST

static const char *const engines[] = {"handler", "kernel"};

/* Two vCPUs fault on the same pages at once: no write is lost, every event is a case. */
START_TEST(two_processors)
{
	struct run run;
	const char *pmem = make_pmem("smp", 256);
	const char *where = _i / 2 ? "where=pmem" : "where=ram";

	if (_i % 2 == 0 && !have_userfaultfd())
		skip("two processors: no userfaultfd here");
	run_foal(&run, ARGS("--kernel", guest_path("smp.elf"), "--append", where, "--cpus", "2",
			    "--pmem", pmem, "--fault-engine", engines[_i % 2]));
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	check_events(&run);
	run_free(&run);
}
END_TEST

/* Processors that are never started end with the run. */
START_TEST(idle_processors)
{
	struct run run;

	run_guest(&run, "exit.elf", "", "--cpus", "8", NULL, NULL);
	run_free(&run);
	run_guest(&run, "exit.elf", "", "--cpus", "64", NULL, NULL);
	run_free(&run);
}
END_TEST

START_TEST(many_files)
{
	struct run run;
	const char *args[2 * 32 + 5] = {"--kernel", guest_path("exit.elf")};
	const char *path = make_pmem("many", 1);
	unsigned n = 2;

	for (unsigned i = 0; i < 16; i++) {
		args[n++] = i % 2 ? "--disk" : "--pmem";
		args[n++] = path;
	}
	run_foal(&run, args);
	ck_assert_msg(run.status == 0, "%s", run.err_text);
	run_free(&run);
}
END_TEST

static const struct {
	const char *args[3];
	const char *begins, *has;
} texts[] = {
    {{"help"}, "foal: virtual machines", "\n  --kernel FILE"},
    {{"--help"}, "foal: virtual machines", "\n  --kernel FILE"},
    {{"-h"}, "foal: virtual machines", "\n  foal version "},
    {{"help", "run"}, "usage: foal run ", "\n  --kernel FILE"},
    {{"run", "--help"}, "usage: foal run ", "\n  --kernel FILE"},
    {{"doctor", "-h"}, "usage: foal doctor\n", "101 if it cannot run"},
    {{"help", "cpu"}, "--cpu host|baseline", " tsc_deadline_timer "},
    {{"help", "cases"}, "Each fault ", "  anon_wp         zero page written: "},
    {{"version"}, "foal ", "\n"},
    {{"--version"}, "foal ", "\n"},
};

START_TEST(help)
{
	struct run run;
	struct run_how how = {.plain = true};

	run_start(&run, &how, texts[_i].args);
	run_wait(&run);
	ck_assert_int_eq(run.status, 0);
	ck_assert_ptr_eq(strstr(run.out_text, texts[_i].begins), run.out_text);
	ck_assert_ptr_nonnull(strstr(run.out_text, texts[_i].has));
	ck_assert_uint_eq(run.err_len, 0);
	run_free(&run);
}
END_TEST

Suite *runs_suite(void)
{
	Suite *suite = suite_create("runs");
	TCase *tc = tcase_create("runs");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_loop_test(tc, exit_status, 0, sizeof(statuses) / sizeof(statuses[0]));
	tcase_add_test(tc, command_line);
	tcase_add_test(tc, command_line_limit);
	tcase_add_loop_test(tc, memory_size, 0, sizeof(memories) / sizeof(memories[0]));
	tcase_add_test(tc, memory_edges);
	tcase_add_loop_test(tc, initrd, 0, sizeof(initrds) / sizeof(initrds[0]));
	tcase_add_loop_test(tc, two_processors, 0, 4);
	tcase_add_test(tc, idle_processors);
	tcase_add_test(tc, many_files);
	tcase_add_loop_test(tc, help, 0, sizeof(texts) / sizeof(texts[0]));
	suite_add_tcase(suite, tc);
	return suite;
}
