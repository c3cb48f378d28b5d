/* foal trace of running VMs: what it says is what foal stat counts, and no VM waits for it. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/kvm/snapshot_rig.h"
#include "tests/kvm/suites.h"

#define HANDLER "--fault-engine", "handler"
/* It faults for ever: it reads a file that is larger than the memory it may have. */
static void busy(const char *name)
{
	background(name,
		   ARGS("--kernel", guest_path("loop.elf"), "--append", "how=pmem", "--pmem",
			make_pmem("busy.img", 8192), "--memory", "64M", "--memory-limit", "16M"));
}

static json_t *asked(const char *const *args)
{
	struct run run;

	foal_command(&run, args);
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	json_t *json = json_loads(run.out_text, 0, NULL);
	ck_assert_msg(json != NULL, "%s", run.out_text);
	run_free(&run);
	return json;
}

static uint64_t number(const json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

/* Of the lists of cases in @stats the sum of what @counter says of @kase. */
static uint64_t counted(const json_t *stats, const char *kase, const char *counter)
{
	const json_t *areas = json_object_get(stats, "areas"), *area, *one;
	uint64_t sum = 0;
	size_t i, j;

	for (i = 0; i <= json_array_size(areas); i++) {
		area = json_array_get(areas, i);
		json_array_foreach(area ? json_object_get(area, "cases")
					: json_object_get(stats, "no_area"),
				   j, one)
		{
			if (strcmp(json_string_value(json_object_get(one, "case")), kase) == 0)
				sum += number(one, counter);
		}
	}
	return sum;
}

/* All faults of @stats; the records of @trace say the same of each case, or NULL: the case. */
static const char *differs(const json_t *stats, const json_t *trace, uint64_t *faults)
{
	static const char *const counters[] = {"faults",  "major",	"installed", "around",
					       "granted", "bytes_read", NULL};
	const json_t *one;
	size_t i;

	*faults = 0;
	json_array_foreach(json_object_get(trace, "cases"), i, one)
	{
		const char *kase = json_string_value(json_object_get(one, "case"));
		*faults += number(one, "faults");
		for (const char *const *c = counters; *c; c++)
			if (number(one, *c) != counted(stats, kase, *c))
				return kase;
	}
	return NULL;
}

static uint64_t all_counted(const json_t *stats)
{
	const json_t *areas = json_object_get(stats, "areas"), *area, *one;
	uint64_t sum = 0;
	size_t i, j;

	json_array_foreach(areas, i, area)
	{
		json_array_foreach(json_object_get(area, "cases"), j, one)
		{
			sum += number(one, "faults");
		}
	}
	json_array_foreach(json_object_get(stats, "no_area"), j, one)
	{
		sum += number(one, "faults");
	}
	return sum;
}

/*
 * The VM is paused: what it counts and what it recorded is the same, once the threads that woke it
 * have counted.
 */
static void expect_equal(const char *name, bool any)
{
	const char *kase = "";
	uint64_t faults = 0, sum = 1;

	expect_command(ARGS("pause", name), 0, "paused");
	while (kase || faults != sum) {
		json_t *stats = asked(ARGS("stat", name, "--json"));
		json_t *trace = asked(ARGS("trace", name, "--for", "0", "--json"));
		const json_t *counts = json_object_get(stats, "stats");
		sum = all_counted(counts);
		kase = differs(counts, trace, &faults);
		ck_assert_uint_eq(number(trace, "lost"), 0);
		ck_assert(!any == (sum == 0));
		json_decref(stats);
		json_decref(trace);
	}
}

START_TEST(equals_the_counters)
{
	char pmem[600];

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	snprintf(pmem, sizeof(pmem), "%s,mode=%s", make_pmem("p.img", 500), _i ? "shared" : "cow");
	background("one", ARGS("--kernel", guest_path("loop.elf"), "--append", "how=pmem mode=w",
			       "--pmem", pmem, HANDLER));
	wait_for_memory("one", 500 * 4096);
	expect_equal("one", true);
}
END_TEST

/* Each copy has a log of its own, of what it faulted itself. */
START_TEST(copies_have_their_own)
{
	if (!have_userfaultfd())
		skip("no userfaultfd here");
	background("one", ARGS(MEMORY_GUEST, HANDLER));
	wait_for_memory("one", MEMORY_GUEST_BYTES);
	expect_command(ARGS("fork", "one", "--name", "two"), 0, "two: running");
	snapshot("one", scratch("snap"));
	expect_command(ARGS("restore", scratch("snap"), "-d", "--name", "three", HANDLER), 0,
		       "three: running");
	wait_for_memory("three", MEMORY_GUEST_BYTES / 2);
	expect_equal("one", true);
	expect_equal("two", false); /* all it touches was there */
	expect_equal("three", true);
}
END_TEST

/* Forms of one log, and the binary one turned into the others, are the same. */
START_TEST(forms_agree)
{
	const char *binary = scratch("t.trace"), *direct = scratch("a.json");
	const char *converted = scratch("b.json"), *csv = scratch("t.csv");
	size_t len, lines = 0;

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	background("one", ARGS(MEMORY_GUEST, HANDLER));
	wait_for_memory("one", MEMORY_GUEST_BYTES);
	expect_command(ARGS("pause", "one"), 0, "paused");
	wait_for_counts("one");
	expect_command(ARGS("trace", "one", "--for", "0", "-o", binary), 0, " records ");
	expect_command(ARGS("trace", "one", "--for", "0", "-o", direct), 0, " records ");
	expect_command(ARGS("trace", "one", "--for", "0", "-o", csv), 0, " records ");
	expect_command(ARGS("trace", binary, "-o", converted), 0, "one: ");
	ck_assert(same_files(direct, converted));
	expect_command(ARGS("trace", binary, "-o", scratch("c.csv")), 0, "one: ");
	ck_assert(same_files(csv, scratch("c.csv")));
	json_t *sums = asked(ARGS("trace", binary, "--json"));
	char *text = read_file(csv, &len);
	for (size_t i = 0; i < len; i++)
		lines += text[i] == '\n';
	ck_assert_uint_eq(lines - 1, number(sums, "records"));
	free(text);
	json_decref(sums);
	expect_command(ARGS("trace", binary), 0, "case ");
	/* With --now nothing comes of one that stands still. */
	sums = asked(ARGS("trace", "one", "--now", "--for", "0", "--json"));
	ck_assert_uint_eq(number(sums, "records"), 0);
	json_decref(sums);
}
END_TEST

/* --- while it runs ------------------------------------------------------------------------ */

static void start(struct run *run, const char *const *args)
{
	struct run_how how = {.plain = true};

	run_start(run, &how, args);
}

/* It goes on until a signal, or the end of the VM; either way all that came is there. */
START_TEST(followed)
{
	struct run run, beside;

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	busy("one");
	start(&beside, ARGS("trace", "one", "--now", "--format", "csv", "-o", "-"));
	start(&run, ARGS("trace", "one", "--now", "-o", scratch("t.trace")));
	run_until(&beside, "file_read");
	while (leftovers(scratch("t.trace")) == 0)
		usleep(1000);
	if (_i)
		expect_command(ARGS("stop", "one", "--kill"), 0, "gone");
	else
		kill(run.pid, SIGINT);
	if (!_i)
		kill(beside.pid, SIGTERM);
	run_wait(&run);
	run_wait(&beside);
	ck_assert_int_eq(run.status, 0);
	ck_assert_int_eq(beside.status, 0);
	ck_assert(!strstr(run.err_text, "the VM has ended") == !_i);
	ck_assert(beside.out_text[beside.out_len - 1] == '\n');
	ck_assert_uint_eq(leftovers(scratch("t.trace")), 0);
	expect_command(ARGS("trace", scratch("t.trace")), 0, " lost\n");
	run_free(&run);
	run_free(&beside);
}
END_TEST

/* Nobody reads what it writes: the VM goes on, and a signal ends it. */
START_TEST(nobody_reads)
{
	const char *pipe = scratch("pipe");
	struct run run;

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	ck_assert_int_eq(mkfifo(pipe, 0600), 0);
	busy("one");
	int reader = open(pipe, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	start(&run, ARGS("trace", "one", "--format", "chrome", "-o", pipe));
	char byte;
	while (read(reader, &byte, 1) != 1)
		usleep(1000);
	int fd = control_connect("one");
	uint64_t exits = exits_of(fd);
	while (exits_of(fd) < exits + 1000)
		usleep(1000);
	close(fd);
	if (_i)
		close(reader);
	else
		kill(run.pid, SIGINT);
	run_wait(&run);
	expect_end(&run, 115, _i ? "Broken pipe" : "given up: nobody reads it");
	run_free(&run);
}
END_TEST

/* --- what cannot be --------------------------------------------------------------------------- */

START_TEST(refusals)
{
	const char *out = scratch("t.trace");
	size_t len;

	if (!have_userfaultfd())
		skip("no userfaultfd here");
	background("one", ARGS(MEMORY_GUEST, HANDLER));
	background("none", ARGS(MEMORY_GUEST, "--fault-log", "off"));
	expect_command(ARGS("trace", "none", "-o", out), 113, "keeps no fault log");
	expect_command(ARGS("trace", "nobody", "-o", out), 112, "no running VM has this name");
	expect_command(ARGS("trace", "/nowhere"), 115, "/nowhere: No such file");
	expect_command(ARGS("trace", "one", "--for", "0", "-o", "/dev/full"), 115, "/dev/full");
	expect_command(ARGS("trace", "one", "--for", "0", "-o", "/nowhere/t"), 115, "/nowhere/t");
	ck_assert(!exists(out));
	wait_for_memory("one", MEMORY_GUEST_BYTES);
	expect_command(ARGS("trace", "one", "--for", "0", "-o", out), 0, " records ");
	/* Cut short: what is whole is given, and the status says so. */
	char *bytes = read_file(out, &len);
	write_file(scratch("cut.trace"), bytes, len - 20);
	write_file(scratch("bad.trace"), bytes + 8, len - 8);
	free(bytes);
	expect_command(ARGS("trace", scratch("cut.trace"), "-o", scratch("cut.csv")), 115,
		       "cut short");
	expect_command(ARGS("trace", out, "-o", scratch("all.csv")), 0, " records ");
	ck_assert(same_files(scratch("cut.csv"), scratch("all.csv")));
	expect_command(ARGS("trace", scratch("bad.trace")), 115, "no trace in foal's binary form");
	expect_command(ARGS("trace", out, "--now"), 100, "of a running VM");
}
END_TEST

static const struct {
	const char *args[5], *words;
} bad[] = {
    {{"trace"}, "is needed"},
    {{"trace", "a", "b"}, "b: not taken"},
    {{"trace", "a", "-o"}, "-o needs a value"},
    {{"trace", "a", "-x"}, "no such option"},
    {{"trace", "a", "--for", "1.5"}, "whole seconds"},
    {{"trace", "a", "--format", "csv"}, "is of -o"},
    {{"trace", "a", "-o", "x", "--format=xml"}, "chrome, csv or binary"},
    {{"trace", "a", "-o", "x", "--json"}, "--json is of the sums"},
    {{"trace", "-o", "", "a"}, "needs the name of a file"},
    {{"trace", "a b"}, "no VM's name"},
};

START_TEST(command_lines)
{
	const char *args[6] = {NULL};

	memcpy(args, bad[_i].args, sizeof(bad[_i].args));
	expect_command(args, 100, bad[_i].words);
}
END_TEST

Suite *trace_suite(void)
{
	Suite *suite = suite_create("trace");
	TCase *tc = tcase_create("trace");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, NULL, end_all);
	tcase_add_loop_test(tc, equals_the_counters, 0, 2);
	tcase_add_test(tc, copies_have_their_own);
	tcase_add_test(tc, forms_agree);
	tcase_add_loop_test(tc, followed, 0, 2);
	tcase_add_loop_test(tc, nobody_reads, 0, 2);
	tcase_add_test(tc, refusals);
	tcase_add_loop_test(tc, command_lines, 0, sizeof(bad) / sizeof(bad[0]));
	suite_add_tcase(suite, tc);
	return suite;
}
