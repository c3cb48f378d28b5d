/* foal bench faults: every row is there with its fields, and counts what it says. No time. */
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"
#include "vmm/error.h"

#define PAGES 64

/* `foal bench faults` on few pages; @only NULL: all but the detail. The rows; free them. */
static json_t *bench_rounds(const char *only, const char *rounds)
{
	const struct run_how how = {.plain = true};
	const char *const all[] = {"bench", "faults", "--json",	    "--rounds", rounds, "--pages",
				   "64",    "--dir",  scratch("."), "--only",	only,	NULL};
	const char *few[12];
	struct run run;

	memcpy(few, all, sizeof(all));
	if (!only)
		few[9] = NULL;
	run_start(&run, &how, few);
	run_wait(&run);
	ck_assert_msg(run.status == 0 || run.status == 1, "%d: %s", run.status, run.err_text);
	ck_assert_uint_eq(run.err_len, 0);
	json_t *root = json_loads(run.out_text, 0, NULL);
	json_t *rows = json_incref(json_object_get(root, "rows"));
	ck_assert_msg(json_is_array(rows), "no rows in: %s", run.out_text);
	ck_assert(json_real_value(json_object_get(root, "seconds")) > 0);
	ck_assert(json_is_false(json_object_get(json_object_get(root, "memory"), "warmed")));
	json_decref(root);
	run_free(&run);
	return rows;
}

static json_t *bench(const char *only)
{
	return bench_rounds(only, "1");
}

static json_t *row_of(json_t *rows, const char *name)
{
	size_t i;
	json_t *row;

	json_array_foreach(rows, i, row)
	{
		if (strcmp(json_string_value(json_object_get(row, "name")), name) == 0)
			return row;
	}
	ck_abort_msg("no row %s", name);
	return NULL;
}

static uint64_t count(json_t *rows, const char *name, const char *field)
{
	json_t *value = json_object_get(row_of(rows, name), field);

	ck_assert_msg(json_is_integer(value), "%s: no %s", name, field);
	return (uint64_t)json_integer_value(value);
}

static void check_fields(json_t *row)
{
	const char *name = json_string_value(json_object_get(row, "name"));
	json_t *ours = json_object_get(row, "ours"), *plain = json_object_get(row, "plain");
	json_t *ratio = json_object_get(row, "ratio");

	ck_assert_msg(json_is_string(json_object_get(row, "unit")), "%s: unit", name);
	ck_assert_msg(json_is_string(json_object_get(row, "bar")), "%s: bar", name);
	ck_assert_msg(json_is_number(json_object_get(row, "spread")), "%s: spread", name);
	ck_assert_msg(json_is_string(json_object_get(row, "options")), "%s: options", name);
	if (json_is_null(ours)) {
		ck_assert_msg(json_is_string(json_object_get(row, "not_measured")), "%s: why",
			      name);
		ck_assert_msg(json_is_null(ratio), "%s: a ratio of nothing", name);
		return;
	}
	ck_assert_msg(json_is_number(ours), "%s: ours", name);
	if (json_is_null(plain))
		return;
	double want = json_number_value(ours) / json_number_value(plain);
	double got = json_number_value(ratio);
	ck_assert_msg(got > want * 0.999 && got < want * 1.001, "%s: ratio %f, not %f", name, got,
		      want);
}

static void expect_pairs(json_t *row, const char *field)
{
	json_t *pairs = json_object_get(row, field);
	double low = json_real_value(json_object_get(pairs, "low"));
	double ratio = json_real_value(json_object_get(pairs, "ratio"));

	ck_assert_int_eq(json_integer_value(json_object_get(pairs, "count")), 8);
	ck_assert_double_gt(low, 0);
	ck_assert_double_le(low, ratio);
	ck_assert_double_le(ratio, json_real_value(json_object_get(pairs, "high")));
}

/* With the log and without it, in pairs of which a round takes four: the interval needs six. */
START_TEST(pairs)
{
	static const char *const names[] = {"log.anon.write.seq", "log.anon.write.seq.middle"};
	json_t *rows = bench("log.*");

	for (size_t i = 0; i < 2; i++) {
		ck_assert_uint_eq(count(rows, names[i], "rounds"), 4);
		ck_assert(json_is_null(json_object_get(row_of(rows, names[i]), "pairs")));
	}
	json_decref(rows);
	rows = bench_rounds("log.*", "2");
	for (size_t i = 0; i < 2; i++) {
		expect_pairs(row_of(rows, names[i]), "pairs");
		expect_pairs(row_of(rows, names[i]), "cpu_pairs");
	}
	json_decref(rows);
}
END_TEST

/* The rows are those that --list names, in its order. */
START_TEST(every_row)
{
	const struct run_how how = {.plain = true};
	json_t *rows = bench(NULL);
	struct run run;
	size_t i = 0;
	char *save;

	run_start(&run, &how, ARGS("bench", "faults", "--list"));
	run_wait(&run);
	ck_assert_int_eq(run.status, 0);
	for (char *line = strtok_r(run.out_text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save), i++) {
		json_t *row = json_array_get(rows, i);
		ck_assert_msg(row != NULL, "no row for: %s", line);
		const char *name = json_string_value(json_object_get(row, "name"));
		ck_assert_msg(strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ' ',
			      "%s is not: %s", name, line);
		check_fields(row);
	}
	ck_assert_uint_eq(i, json_array_size(rows));
	ck_assert_uint_ge(i, 16);
	run_free(&run);
	json_decref(rows);
}
END_TEST

/* --- foal bench snapshots ----------------------------------------------------------------- */

/* On few pages, once: the rows of @only; free them. */
static json_t *bench_snapshots(const char *only)
{
	const struct run_how how = {.plain = true};
	struct run run;

	run_start(&run, &how,
		  ARGS("bench", "snapshots", "--json", "--rounds", "1", "--pages", "256", "--dir",
		       scratch("."), "--only", only));
	run_wait(&run);
	ck_assert_msg(run.status == 0 || run.status == 1, "%d: %s", run.status, run.err_text);
	json_t *root = json_loads(run.out_text, 0, NULL);
	json_t *rows = json_incref(json_object_get(root, "rows"));
	ck_assert_msg(json_is_array(rows), "no rows in: %s", run.out_text);
	json_decref(root);
	run_free(&run);
	return rows;
}

/*
 * Each way of restored memory: what a set lists comes before it is asked for, all else when it
 * is; and the guest finds what was written (else it is no row).
 */
START_TEST(restored_memory)
{
	json_t *rows = bench_snapshots("restore.touch.*");

	ck_assert_uint_eq(json_array_size(rows), 7);
	for (size_t i = 0; i < 7; i++) {
		json_t *row = json_array_get(rows, i);
		json_t *why = json_object_get(row, "not_measured");
		const char *name = json_string_value(json_object_get(row, "name"));
		if (why && strstr(name, ".cold")) /* a file system that keeps its cache */
			continue;
		ck_assert_msg(!why, "%s: %s", name, json_string_value(why));
		ck_assert_msg(json_is_number(json_object_get(row, "ratio")), "%s", name);
	}
	/* Whatever came first: an event brings an extent at most, or 2 MiB. */
	ck_assert_uint_ge(count(rows, "restore.touch.set.warm", "brought") +
			      16 * count(rows, "restore.touch.set.warm", "faults"),
			  256);
	ck_assert_uint_ge(count(rows, "restore.touch.warm", "brought") +
			      512 * count(rows, "restore.touch.warm", "faults"),
			  16384);
	ck_assert_uint_eq(count(rows, "restore.touch.lazy.warm", "brought"), 0);
	ck_assert_uint_ge(512 * count(rows, "restore.touch.lazy.warm", "faults"), 16384);
	json_decref(rows);
}
END_TEST

/* Whole VMs: frozen, restored, and gone at the end; nothing is left of the files. */
START_TEST(restored_vms)
{
	json_t *rows = bench_snapshots("restore.256M");

	ck_assert_uint_eq(json_array_size(rows), 1);
	ck_assert(json_is_number(json_object_get(json_array_get(rows, 0), "ours")));
	json_decref(rows);
	rows = bench_snapshots("snapshot.pause");
	ck_assert(json_is_number(json_object_get(json_array_get(rows, 0), "ours")));
	json_decref(rows);
}
END_TEST

/*
 * Of @only each row has a value, but for those beside the bare program, which is not given, and
 * what takes the right to make a cgroup.
 */
static void expect_rows(const char *only, size_t want)
{
	json_t *rows = bench_snapshots(only);

	ck_assert_uint_eq(json_array_size(rows), want);
	for (size_t i = 0; i < want; i++) {
		const json_t *row = json_array_get(rows, i);
		const char *why = json_string_value(json_object_get(row, "not_measured"));

		ck_assert_msg(!why || strstr(why, "--bare FILE was not given") ||
				  strstr(why, "no memory cgroup can be made"),
			      "%s: %s", json_string_value(json_object_get(row, "name")), why);
		ck_assert(json_is_number(json_object_get(row, "ours")));
	}
	json_decref(rows);
}

START_TEST(cloned_vms)
{
	expect_rows("clone*", 8);
}
END_TEST

START_TEST(forked_vms)
{
	expect_rows("fork.*", 3);
}
END_TEST

START_TEST(reset_vms)
{
	expect_rows("reset.*", 4);
}
END_TEST

/* --- counts ---------------------------------------------------------------------------------- */

/* A page a fault: as many are installed as were touched, by us and by the host kernel. */
START_TEST(anonymous_counts)
{
	json_t *rows = bench("detail.handler.anon.*.1cpu");
	static const char *const names[] = {
	    "detail.handler.anon.read.seq.1cpu", "detail.handler.anon.write.seq.1cpu",
	    "detail.handler.anon.write.random.1cpu", "detail.handler.anon.wp.seq.1cpu"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		ck_assert_uint_eq(count(rows, names[i], "touches"), PAGES);
		ck_assert_uint_eq(count(rows, names[i], "pages"), PAGES);
		ck_assert_uint_eq(count(rows, names[i], "installed"), PAGES);
		ck_assert_uint_eq(count(rows, names[i], "installed_plain"), PAGES);
	}
	ck_assert_uint_eq(count(rows, names[1], "faults"), PAGES);
	ck_assert_uint_eq(count(rows, names[3], "faults"), 2 * PAGES);
	json_decref(rows);
}
END_TEST

/* Windows bring what they say to begin with, and no more than the area. */
START_TEST(window_counts)
{
	static const struct {
		const char *name;
		unsigned faults, installed;
	} want[] = {
	    {"detail.window1.file.read.seq.warm.1cpu", PAGES, PAGES},
	    {"detail.window16.file.read.seq.warm.1cpu", 2, PAGES}, /* 16, then it grows */
	    {"detail.window64.file.read.seq.warm.1cpu", 1, PAGES},
	    {"detail.window512.file.read.seq.warm.1cpu", 1, 512},
	};
	json_t *rows = bench("detail.window*.seq.warm.1cpu");

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		ck_assert_uint_eq(count(rows, want[i].name, "faults"), want[i].faults);
		ck_assert_uint_eq(count(rows, want[i].name, "installed"), want[i].installed);
	}
	json_decref(rows);
}
END_TEST

/* Two vCPUs share the touches; both engines install the same pages. */
START_TEST(two_vcpus)
{
	json_t *rows = bench("detail.*.anon.write.seq.2cpu");

	ck_assert_uint_eq(count(rows, "detail.handler.anon.write.seq.2cpu", "installed"), PAGES);
	ck_assert_uint_eq(count(rows, "detail.kernel.anon.write.seq.2cpu", "touches"), PAGES);
	ck_assert_uint_eq(count(rows, "detail.kernel.anon.write.seq.2cpu", "installed"), PAGES);
	ck_assert_uint_eq(count(rows, "detail.kernel.anon.write.seq.2cpu", "faults"), 0);
	json_decref(rows);
}
END_TEST

static const struct {
	const char *args[6];
	int status;
	const char *words;
} mistakes[] = {
    {{"bench"}, FOAL_EXIT_USAGE, "foal bench faults"},
    {{"bench", "exits", "--detail"}, FOAL_EXIT_USAGE, "--detail: no such option"},
    {{"bench", "exits", "--only", "nothing"}, FOAL_EXIT_USAGE, "no row"},
    {{"bench", "exits", "--dir", "/nowhere"}, FOAL_EXIT_DISK, "/nowhere: No such file"},
    {{"bench", "snapshots", "--detail"}, FOAL_EXIT_USAGE, "--detail: no such option"},
    {{"bench", "snapshots", "--only", "nothing"}, FOAL_EXIT_USAGE, "no row"},
    {{"bench", "snapshots", "--dir", "/nowhere"}, FOAL_EXIT_DISK, "/nowhere: No such file"},
    {{"bench-touch"}, FOAL_EXIT_USAGE, "foal bench starts this"},
    {{"bench-fork"}, FOAL_EXIT_USAGE, "foal bench starts this"},
    {{"bench-reset"}, FOAL_EXIT_USAGE, "foal bench starts this"},
    {{"bench", "faults", "--rounds", "0"}, FOAL_EXIT_USAGE, "--rounds 0: give a whole number"},
    {{"bench", "faults", "--pages", "x"}, FOAL_EXIT_USAGE, "--pages x: give a whole number"},
    {{"bench", "faults", "--quick"}, FOAL_EXIT_USAGE, "--quick: no such option"},
    {{"bench", "faults", "--only"}, FOAL_EXIT_USAGE, "--only: needs a value"},
    {{"bench", "faults", "--only", "nothing"}, FOAL_EXIT_USAGE, "no row"},
    {{"bench", "faults", "much"}, FOAL_EXIT_USAGE, "much: not an option"},
    {{"bench", "faults", "--dir", "/nowhere"}, FOAL_EXIT_DISK, "/nowhere: No such file"},
    {{"bench", "faults", "--json=/nowhere/x"}, FOAL_EXIT_DISK, "/nowhere/x: No such file"},
    {{"bench-sample"}, FOAL_EXIT_USAGE, "foal bench starts this"},
};

START_TEST(mistake)
{
	const struct run_how how = {.plain = true};
	struct run run;

	run_start(&run, &how, mistakes[_i].args);
	run_wait(&run);
	expect_end(&run, mistakes[_i].status, mistakes[_i].words);
	ck_assert_uint_eq(run.out_len, 0);
	run_free(&run);
}
END_TEST

/* What a file held before is gone when there is a result, and not sooner. */
START_TEST(json_file)
{
	const struct run_how how = {.plain = true};
	const char *path = scratch("bench-json");
	char json[600], junk[1 << 16], head[8] = "";
	struct run run;

	memset(junk, 'x', sizeof(junk));
	write_file(path, junk, sizeof(junk));
	snprintf(json, sizeof(json), "--json=%s", path);
	run_start(&run, &how, ARGS("bench", "faults", json, "--dir", "/nowhere"));
	run_wait(&run);
	expect_end(&run, FOAL_EXIT_DISK, "/nowhere: No such file");
	run_free(&run);
	FILE *file = fopen(path, "r");
	ck_assert_uint_eq(fread(head, 1, 4, file), 4);
	ck_assert_str_eq(head, "xxxx");
	fclose(file);
	run_start(&run, &how,
		  ARGS("bench", "faults", json, "--rounds", "1", "--pages", "16", "--dir",
		       scratch("."), "--only", "anon.write.sparse"));
	run_wait(&run);
	ck_assert_msg(run.status == 0 || run.status == 1, "%d: %s", run.status, run.err_text);
	run_free(&run);
	json_t *root = json_load_file(path, 0, NULL);
	ck_assert_uint_eq(json_array_size(json_object_get(root, "rows")), 2);
	json_decref(root);
}
END_TEST

/* --- it leaves nothing behind ----------------------------------------------------- */

/* How many of its children are stopped; of all: @stopped false. */
static unsigned children_of(pid_t pid, bool stopped)
{
	char path[64];
	unsigned count = 0;
	int child;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	FILE *children = fopen(path, "r");
	while (children && fscanf(children, "%d", &child) == 1) {
		char state = 0;
		snprintf(path, sizeof(path), "/proc/%d/stat", child);
		FILE *stat = fopen(path, "r");
		if (stat && fscanf(stat, "%*d (%*[^)]) %c", &state) == 1)
			count += !stopped || state == 'T';
		if (stat)
			fclose(stat);
	}
	if (children)
		fclose(children);
	return count;
}

static void start_bench(struct run *run, const char *only, bool stopped)
{
	const struct run_how how = {.plain = true};

	/* Short samples, for it ends between two, and more of them than there is time for. */
	run_start(run, &how,
		  ARGS("bench", "faults", "--rounds", "64", "--pages", "64", "--dir", scratch("."),
		       "--only", only));
	while (!children_of(run->pid, stopped))
		usleep(1000);
}

/* Its VMs, stopped as they are by then, go with it: they hold its standard error. */
START_TEST(killed)
{
	struct run run;

	start_bench(&run, "ten_vms.*", true);
	kill(run.pid, SIGKILL);
	run_wait(&run);
	ck_assert_int_eq(run.status, -SIGKILL);
	run_free(&run);
}
END_TEST

/* The first that matches, or an empty text. */
static void first_match(const char *pattern, char *path, size_t size)
{
	glob_t found;

	path[0] = 0;
	if (glob(pattern, 0, NULL, &found))
		return;
	snprintf(path, size, "%s", found.gl_pathv[0]);
	globfree(&found);
}

/* A connection to a VM whose socket matches, once there is one. */
static int connect_to_match(const char *pattern)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	do {
		usleep(1000);
		first_match(pattern, addr.sun_path, sizeof(addr.sun_path));
	} while (!addr.sun_path[0] || connect(fd, (struct sockaddr *)&addr, sizeof(addr)));
	return fd;
}

static void wait_for_end(int fd)
{
	char text[512];

	while (read(fd, text, sizeof(text)) > 0)
		;
	close(fd);
}

/* Its template and the clones of it, which are nobody's children, go with it, and all its files. */
START_TEST(killed_with_template)
{
	const struct run_how how = {.plain = true};
	char left[64];
	struct run run;

	run_start(&run, &how,
		  ARGS("bench", "snapshots", "--pages", "256", "--dir", scratch("."), "--only",
		       "clones.1000.*"));
	int template = connect_to_match(scratch("foal-bench-*/many.template.sock"));
	int clone = _i ? connect_to_match(scratch("foal-bench-*/cloned-*.sock")) : -1;
	kill(run.pid, SIGKILL);
	run_wait(&run);
	ck_assert_int_eq(run.status, -SIGKILL);
	run_free(&run);
	wait_for_end(template);
	if (clone >= 0)
		wait_for_end(clone);
	do {
		usleep(1000);
		first_match(scratch("foal-bench-*"), left, sizeof(left));
	} while (left[0]);
}
END_TEST

START_TEST(ended_by_signal)
{
	static const int signals[] = {SIGTERM, SIGQUIT, SIGUSR1, SIGXCPU};
	struct run run;

	for (size_t i = 0; i < (emulated_host() ? 1 : sizeof(signals) / sizeof(signals[0])); i++) {
		start_bench(&run, "anon.write.s*", false);
		kill(run.pid, signals[i]);
		run_wait(&run);
		expect_end(&run, 128 + signals[i], "not all is measured");
		run_free(&run);
	}
}
END_TEST

static void limit_files(void *arg)
{
	const rlim_t *bytes = arg;

	setrlimit(RLIMIT_FSIZE, &(struct rlimit){*bytes, *bytes});
}

START_TEST(file_may_not_grow)
{
	rlim_t bytes = 1 << 20;
	const struct run_how how = {.plain = true, .prepare = limit_files, .arg = &bytes};
	struct run run;

	run_start(&run, &how, ARGS("bench", "faults", "--rounds", "1", "--dir", scratch(".")));
	run_wait(&run);
	expect_end(&run, FOAL_EXIT_DISK, "File too large");
	run_free(&run);
}
END_TEST

Suite *bench_suite(void)
{
	Suite *suite = suite_create("bench");
	TCase *tc = tcase_create("bench");

	tcase_set_timeout(tc, TEST_LIMIT);
	if (have_userfaultfd()) {
		tcase_add_test(tc, every_row);
		tcase_add_test(tc, pairs);
		tcase_add_test(tc, restored_memory);
		tcase_add_test(tc, restored_vms);
		tcase_add_test(tc, cloned_vms);
		tcase_add_test(tc, forked_vms);
		tcase_add_test(tc, reset_vms);
		tcase_add_test(tc, anonymous_counts);
		tcase_add_test(tc, window_counts);
		tcase_add_test(tc, two_vcpus);
		tcase_add_test(tc, killed);
		tcase_add_loop_test(tc, killed_with_template, 0, 2);
	}
	tcase_add_test(tc, json_file);
	tcase_add_test(tc, ended_by_signal);
	tcase_add_test(tc, file_may_not_grow);
	tcase_add_loop_test(tc, mistake, 0, sizeof(mistakes) / sizeof(mistakes[0]));
	suite_add_tcase(suite, tc);
	return suite;
}
