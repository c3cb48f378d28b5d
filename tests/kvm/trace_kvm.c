/*
 * foal trace --kvm: what KVM tells of faults is what the fault log tells, page by page, and
 * where KVM tells nothing there are its counts.
 */
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "tests/kvm/snapshot_rig.h"
#include "tests/kvm/suites.h"

/* The first page that ring3.elf writes, and how many it does here. */
#define FIRST	   (16UL << 20)
#define PAGES	   200U
#define TEXT_BEGIN (1UL << 20)
#define TEXT_END   (2UL << 20)

/* --- the guest ------------------------------------------------------------------------------ */

/* It is about to write its pages; its console. */
static int about_to_write(const char *engine)
{
	char append[64];

	snprintf(append, sizeof(append), "wait=1 pages=%u", PAGES);
	background("one", ARGS("--kernel", guest_path("ring3.elf"), "--append", append, "--huge",
			       "never", "--fault-engine", engine));
	int fd = control_connect("one");
	int console = control_console(fd);
	close(fd);
	read_until(console, "ready\n");
	return console;
}

static void let_it_write(int console)
{
	ck_assert_int_eq(write(console, "x", 1), 1);
	read_until(console, "done\n");
	close(console);
}

/* Start it, and wait until it follows the VM: what it has for signals is made last. */
static void watch(struct run *run, const char *const *args)
{
	struct run_how how = {.plain = true};
	char command[64];

	run_start(run, &how, args);
	snprintf(command, sizeof(command), "ls -l /proc/%d/fd 2>&1 | grep -q signalfd",
		 (int)run->pid);
	while (system(command) != 0)
		usleep(1000);
}

static void end_trace(struct run *run)
{
	kill(run->pid, SIGINT);
	run_wait(run);
	ck_assert_msg(run->status == 0, "status %d: %s", run->status, run->err_text);
}

static uint64_t number(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	ck_assert_msg(json_is_integer(value), "no number \"%s\"", key);
	return (uint64_t)json_integer_value(value);
}

/* --- page by page ----------------------------------------------------------------------------- */

/* How often each page that the guest writes is named by lines of @path that have @words. */
static void count_pages(const char *path, const char *words, unsigned counts[PAGES])
{
	size_t len;
	char *text = read_file(path, &len), *save;

	memset(counts, 0, PAGES * sizeof(counts[0]));
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		const char *gpa = strstr(line, ",0x");
		unsigned long page = gpa ? (strtoul(gpa + 3, NULL, 16) - FIRST) / 4096 : PAGES;
		if (page < PAGES && strstr(line, words))
			counts[page]++;
	}
	free(text);
}

static void expect_kvm(const char *text, const char *by)
{
	json_t *json = json_loads(text, 0, NULL);
	const json_t *kvm = json_object_get(json, "kvm");
	const json_t *points = json_object_get(kvm, "tracepoints");
	static const char *const sums[] = {"handler", "host", "again", "outside", NULL};
	uint64_t faults = 0;

	ck_assert_ptr_nonnull(points);
	ck_assert_uint_eq(number(points, "lost"), 0);
	ck_assert_uint_ge(number(json_object_get(points, by), "faults"), PAGES);
	for (const char *const *sum = sums; *sum; sum++)
		faults += number(json_object_get(points, *sum), "faults");
	ck_assert_uint_eq(faults, number(json_object_get(kvm, "statistics"), "pf_taken"));
	/* One may be under way at either end. */
	ck_assert_uint_le(number(points, "exits"), number(points, "entries") + 1);
	ck_assert_uint_le(number(points, "entries"), number(points, "exits") + 1);
	const json_t *rip = json_array_get(json_object_get(points, "rips"), 0);
	uint64_t at = strtoul(json_string_value(json_object_get(rip, "rip")), NULL, 16);
	ck_assert_uint_ge(number(rip, "faults"), PAGES);
	ck_assert(at >= TEXT_BEGIN && at < TEXT_END);
	json_decref(json);
}

/* How often each is that of a slice of KVM's named @by, of trace events. */
static void count_slices(const char *path, const char *by, unsigned counts[PAGES])
{
	json_t *root = json_load_file(path, 0, NULL), *event;
	size_t i;

	ck_assert_ptr_nonnull(root);
	memset(counts, 0, PAGES * sizeof(counts[0]));
	json_array_foreach(json_object_get(root, "traceEvents"), i, event)
	{
		const char *cat = json_string_value(json_object_get(event, "cat"));
		const json_t *args = json_object_get(event, "args");

		if (!cat || strcmp(cat, "kvm") != 0)
			continue;
		unsigned long page =
		    (strtoul(json_string_value(json_object_get(args, "gpa")), NULL, 16) - FIRST) /
		    4096;
		if (page < PAGES &&
		    strcmp(json_string_value(json_object_get(event, "name")), by) == 0)
			counts[page]++;
	}
	json_decref(root);
}

static const struct {
	const char *engine, *by;
} engines[] = {{"handler", "handler"}, {"kernel", "host"}};

/* One trace in the binary form, and what each of the others makes of it. */
START_TEST(page_by_page)
{
	const char *binary = scratch("kvm.trace"), *told = scratch("kvm.csv");
	const char *log = scratch("log.csv"), *chrome = scratch("kvm.json");
	bool handler = strcmp(engines[_i].engine, "handler") == 0;
	unsigned of_kvm[PAGES], of_log[PAGES], of_chrome[PAGES];
	struct run run, sums;

	if (access("/sys/kernel/tracing/events/kvm/kvm_exit/format", R_OK) || !emulated_host())
		skip("tracepoints of KVM are looked at on the emulated host");
	int console = about_to_write(engines[_i].engine);
	watch(&sums, ARGS("trace", "one", "--kvm", "--now", "--json"));
	watch(&run, ARGS("trace", "one", "--kvm", "--now", "-o", binary));
	let_it_write(console);
	end_trace(&run);
	end_trace(&sums);
	expect_kvm(sums.out_text, engines[_i].by);
	run_free(&sums);
	foal_command(&sums, ARGS("trace", binary, "--json"));
	expect_kvm(sums.out_text, engines[_i].by);
	expect_command(ARGS("trace", binary, "--kvm", "-o", told), 0, " that KVM told of in ");
	expect_command(ARGS("trace", binary, "-o", chrome), 0, " that KVM told of in ");
	expect_command(ARGS("trace", binary, "-o", log), 0, " records ");
	count_slices(chrome, engines[_i].by, of_chrome);
	count_pages(told, handler ? ",0,1\r" : ",0,0\r", of_kvm);
	count_pages(log, "vcpu,0,", of_log);
	for (unsigned i = 0; i < PAGES; i++) {
		ck_assert_uint_eq(of_log[i], handler);
		ck_assert_uint_eq(of_kvm[i], 1);
		ck_assert_uint_eq(of_chrome[i], 1);
	}
	run_free(&run);
	run_free(&sums);
}
END_TEST

/* --- where it is not permitted ---------------------------------------------------------------- */

static void drop_rights(void *arg)
{
	(void)arg;
	prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0);
	prctl(PR_CAPBSET_DROP, CAP_PERFMON, 0, 0, 0);
}

/* One line says what is missing, and KVM's statistics are there. */
START_TEST(not_permitted)
{
	struct run_how how = {.plain = true, .prepare = drop_rights};
	bool tracefs = access("/sys/kernel/tracing/events/kvm/kvm_exit/format", R_OK) == 0;
	struct run run;

	background("one", ARGS("--kernel", guest_path("loop.elf"), "--append", "how=anon"));
	run_start(&run, &how, ARGS("trace", "one", "--kvm", "--for", "0", "--json"));
	run_wait(&run);
	expect_end(&run, 0, tracefs ? "it needs CAP_PERFMON" : "tracefs");
	json_t *json = json_loads(run.out_text, 0, NULL);
	const json_t *kvm = json_object_get(json, "kvm");
	ck_assert(json_is_string(json_object_get(kvm, "missing")));
	ck_assert(json_is_null(json_object_get(kvm, "tracepoints")));
	number(json_object_get(kvm, "statistics"), "pf_taken");
	json_decref(json);
	run_free(&run);
}
END_TEST

/* What KVM told is in the file as it was: here that it could not be asked, and its counts. */
START_TEST(kept_in_a_file)
{
	struct run_how how = {.plain = true, .prepare = drop_rights};
	const char *path = scratch("kvm.trace");
	struct run run;

	background("one", ARGS("--kernel", guest_path("loop.elf"), "--append", "how=anon"));
	run_start(&run, &how, ARGS("trace", "one", "--kvm", "--for", "0", "-o", path));
	run_wait(&run);
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	ck_assert_ptr_nonnull(strstr(run.out_text, " and 0 faults that KVM told of in "));
	run_free(&run);
	foal_command(&run, ARGS("trace", path, "--json"));
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	json_t *json = json_loads(run.out_text, 0, NULL);
	const json_t *kvm = json_object_get(json, "kvm");
	ck_assert(json_is_string(json_object_get(kvm, "missing")));
	number(json_object_get(kvm, "statistics"), "pf_taken");
	ck_assert(json_is_null(json_object_get(kvm, "statistics_missing")));
	json_decref(json);
	run_free(&run);
	expect_command(ARGS("trace", "one", "--for", "0", "-o", path), 0, " records ");
	expect_command(ARGS("trace", path, "--kvm"), 0, "nothing in it that KVM told");
}
END_TEST

static const struct {
	const char *args[6], *words;
} bad[] = {
    {{"trace", "/a", "--kvm", "--now"}, "of a running VM"},
    {{"trace", "/a", "--kvm", "--for", "1"}, "of a running VM"},
};

START_TEST(command_lines)
{
	expect_command(bad[_i].args, 100, bad[_i].words);
}
END_TEST

Suite *trace_kvm_suite(void)
{
	Suite *suite = suite_create("trace_kvm");
	TCase *tc = tcase_create("trace_kvm");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, NULL, end_all);
	tcase_add_loop_test(tc, page_by_page, 0, sizeof(engines) / sizeof(engines[0]));
	tcase_add_test(tc, not_permitted);
	tcase_add_test(tc, kept_in_a_file);
	tcase_add_loop_test(tc, command_lines, 0, sizeof(bad) / sizeof(bad[0]));
	suite_add_tcase(suite, tc);
	return suite;
}
