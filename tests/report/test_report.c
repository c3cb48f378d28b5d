/*
 * foal report from trace to browser: the page opens from a file, draws each of its charts, says
 * what foal trace says, asks for nothing, and takes no text of a trace for anything else. Run from
 * the top of the tree.
 */
#include <check.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/run_suites.h"
#include "tests/scratch.h"
#include "vmm/trace_out.h"

#define FOAL	    "build/foal"
#define PAGE	    "build/foal-report.html"
#define LOOK	    "tests/report/look.mjs"
#define MODULES	    "build/tests/report/node_modules"
#define MIB	    (1ULL << 20)
#define MAIN_NS	    (7000 * 1000000ULL)
#define RECORDS	    30000
#define COUNT(list) (sizeof(list) / sizeof(*(list)))

/* What would run, load or draw something if it were taken for markup or script. */
#define EVIL \
	"</script><script>globalThis.pwned=1</script><img src=http://x.invalid/i onerror=pwned=2>"
#define EVIL_COMMENT "<!--<script>\xe2\x80\xa8*/'\"`${globalThis.pwned=3}\\u003c/script>"

static const char *const plain_cases[] = {"anon_read", "anon_write", "file_read", "anon_huge"};
static const char *const evil_cases[] = {EVIL, "{a|b}", "<b>bold</b>", "__proto__"};

/* --- traces --------------------------------------------------------------------------------- */

static json_t *names(const char *const *list, size_t n)
{
	json_t *json = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(json, json_string(list[i]));
	return json;
}

static json_t *area(const char *name, uint64_t gpa, uint64_t size, const char *file)
{
	return json_pack("{s:s, s:I, s:I, s:s, s:s}", "name", name, "gpa", (json_int_t)gpa, "size",
			 (json_int_t)size, "file", file, "engine", "handler");
}

static json_t *meta_json(bool evil)
{
	static const char *const origins[] = {"vcpu", "kvm"};
	json_t *areas = json_array();

	json_array_append_new(areas, area(evil ? EVIL : "ram", 0, 64 * MIB, ""));
	json_array_append_new(areas, area(evil ? "<!--<script>" : "pmem0", 4096 * MIB, 64 * MIB,
					  evil ? EVIL_COMMENT : "/srv/root.img"));
	return json_pack("{s:s, s:o, s:o, s:o, s:I, s:I, s:I, s:i}", "vm", "web", "areas", areas,
			 "cases", names(evil ? evil_cases : plain_cases, 4), "origins",
			 names(origins, 2), "main_ns", (json_int_t)MAIN_NS, "first_run_ns",
			 (json_int_t)(MAIN_NS + 1000000), "memory", (json_int_t)(64 * MIB), "cpus",
			 1);
}

static struct ept_record make_record(unsigned i)
{
	static uint32_t x = 1;

	x = x * 1664525 + 1013904223;
	unsigned kase = x >> 30;
	bool file = kase == 2;
	return (struct ept_record){
	    .at = MAIN_NS + 2000000 + i * 40000ULL,
	    .gpa = ((uint64_t)((x >> 8) % (i / 2 + 1) & 0x3fff) << EPT_PAGE_SHIFT) +
		   (file ? 4096 * MIB : 0),
	    .put_ns = 1,
	    .done_ns = 1000 + (x >> 16) * (kase + 1),
	    .installed = file ? 4 : 1,
	    .around = file ? 3 : 0,
	    .bytes_read = file ? 4096 : 0,
	    .area = file,
	    .kase = (uint8_t)kase,
	    .access = EPT_WRITE,
	    .flags = EPT_RECORD_EVENT,
	};
}

/* Its path. */
static const char *make_trace(bool evil, unsigned n, uint64_t lost)
{
	const char *path = scratch_keep(scratch("t.trace")), *why;
	struct foal_error err = {0};
	struct trace_meta meta;
	struct trace_out *out;

	ck_assert_int_eq(trace_meta_take(meta_json(evil), &meta, &why), 0);
	ck_assert_int_eq(trace_out_open(path, -1, &out, &err), 0);
	void *state = trace_binary.begin(out, &meta);
	for (unsigned i = 0; i < n; i++) {
		struct ept_record record = make_record(i);
		trace_binary.record(state, &record);
	}
	trace_binary.end(state, lost);
	ck_assert_int_eq(trace_out_close(out, true, &err), 0);
	trace_meta_free(&meta);
	return path;
}

/* @n faults that KVM told of, a few of each kind, behind @records of ours; its path. */
static const char *make_kvm_trace(unsigned records, unsigned n)
{
	static const struct trace_kvm_told told = {.counts = {7001, 7002, 7003},
						   .counted = true,
						   .exits = 7004,
						   .taken = 7005,
						   .fixed = 7006};
	const char *path = scratch_keep(scratch("kvm.trace")), *why;
	struct foal_error err = {0};
	struct trace_meta meta;
	struct trace_out *out;

	ck_assert_int_eq(trace_meta_take(meta_json(false), &meta, &why), 0);
	ck_assert_int_eq(trace_out_open(path, -1, &out, &err), 0);
	void *state = trace_binary.begin(out, &meta);
	for (unsigned i = 0; i < records; i++) {
		struct ept_record record = make_record(i);
		trace_binary.record(state, &record);
	}
	for (unsigned i = 0; i < n; i++) {
		struct kvm_fault fault = {.at = MAIN_NS + i * 100000ULL,
					  .gpa = (i % 8 ? i * 61 % 16384 : 1024 * MIB / 4096) *
						 4096ULL,
					  .rip = 0xffffffff81000000,
					  .handled = i % 4 == 1,
					  .again = i % 4 == 2};
		fault.entry = fault.at + 5000 + i;
		trace_binary.kvm_fault(state, &fault);
	}
	trace_binary.kvm_end(state, &told);
	trace_binary.end(state, 0);
	ck_assert_int_eq(trace_out_close(out, true, &err), 0);
	trace_meta_free(&meta);
	return path;
}

/* --- programs ------------------------------------------------------------------------------- */

struct ended {
	int status; /* minus a signal */
	char *out, *err;
};

static char *text_of(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	ck_assert_msg(fd >= 0 && fstat(fd, &st) == 0, "%s", path);
	char *text = calloc(1, (size_t)st.st_size + 1);
	ck_assert_int_eq(read(fd, text, (size_t)st.st_size), st.st_size);
	close(fd);
	return text;
}

/* @file_limit: the most bytes that a file of its may have; 0: as many as it wants. */
static struct ended run(const char *const *argv, rlim_t file_limit)
{
	const char *out = scratch_keep(scratch("stdout")), *err = scratch_keep(scratch("stderr"));
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct rlimit limit = {file_limit, file_limit};
		if (!freopen(out, "we", stdout) || !freopen(err, "we", stderr) ||
		    (file_limit && setrlimit(RLIMIT_FSIZE, &limit)))
			_exit(127);
		dup2(open(out, O_WRONLY | O_TRUNC), STDOUT_FILENO);
		dup2(open(err, O_WRONLY | O_TRUNC), STDERR_FILENO);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return (struct ended){WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status),
			      text_of(out), text_of(err)};
}

#define RUN(...) run((const char *const[]){__VA_ARGS__, NULL}, 0)

/* One line, which has @words in it. */
static void expect(struct ended ended, int status, const char *words)
{
	const char *end = strchr(ended.err, '\n');

	ck_assert_msg(ended.status == status, "status %d: %s", ended.status, ended.err);
	ck_assert_msg(strstr(ended.err, words) != NULL, "%s", ended.err);
	ck_assert_msg(end && !end[1], "%s", ended.err);
}

/* The page of @trace; its path. */
static const char *make_page(const char *trace)
{
	const char *page = scratch_keep(scratch("page.html"));
	struct ended ended = RUN(FOAL, "report", trace, "-o", page);

	ck_assert_msg(ended.status == 0, "status %d: %s", ended.status, ended.err);
	ck_assert_str_eq(ended.err, "");
	return page;
}

/* What the browser saw, in each of its views. */
static json_t *look(const char *page)
{
	struct ended ended = RUN("node", LOOK, MODULES, page);
	json_t *views = json_loads(ended.out, 0, NULL);

	ck_assert_msg(ended.status == 0 && json_array_size(views) == 2, "status %d: %s%s",
		      ended.status, ended.out, ended.err);
	return views;
}

static json_t *sums(const char *trace)
{
	struct ended ended = RUN(FOAL, "trace", trace, "--json");

	ck_assert_msg(ended.status == 0 || ended.status == FOAL_EXIT_TRACE, "%s", ended.err);
	json_t *json = json_loads(ended.out, 0, NULL);
	ck_assert_ptr_nonnull(json);
	return json;
}

static const char *string(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

/* --- what a view has to be -------------------------------------------------------------------- */

/* Nothing was said, nothing asked for but the page, nothing came out of a text. */
static void expect_quiet(const json_t *view)
{
	const json_t *said = json_object_get(view, "said"),
		     *asked = json_object_get(view, "requests");

	ck_assert_str_eq(string(view, "ready"), "yes");
	ck_assert_msg(json_array_size(said) == 0, "%s", json_string_value(json_array_get(said, 0)));
	ck_assert_msg(json_array_size(asked) == 1, "%s",
		      json_string_value(json_array_get(asked, 1)));
	ck_assert(json_is_null(json_object_get(view, "pwned")));
	ck_assert_int_eq(json_integer_value(json_object_get(view, "scripts")), 2);
	ck_assert_int_eq(json_integer_value(json_object_get(view, "foreign")), 0);
	ck_assert_msg(json_integer_value(json_object_get(view, "sideways")) <= 0,
		      "it is wider than the screen");
}

/* Words, axes and marks are grey, and so does a chart without its data look. */
static void expect_drawn(const json_t *chart, const char *name)
{
	ck_assert_msg(json_integer_value(json_object_get(chart, "coloured")) > 500, "%s is blank",
		      name);
}

static void expect_charts(const json_t *view)
{
	static const char *const ids[] = {"space", "faults", "working-set", "latency", "files"};
	const json_t *charts = json_object_get(view, "charts");

	for (size_t i = 0; i < COUNT(ids); i++)
		expect_drawn(json_object_get(charts, ids[i]), ids[i]);
	ck_assert_str_eq(string(view, "focus"), "Faults");
	expect_drawn(json_object_get(view, "other"), "the map of faults");
	ck_assert(!json_equal(json_object_get(view, "other"), json_object_get(charts, "space")));
}

static void expect_cell(const json_t *row, size_t cell, const json_t *number)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(number));
	ck_assert_str_eq(json_string_value(json_array_get(row, cell)), text);
}

/* Its table of totals is what foal trace --json says, figure by figure. */
static void expect_totals(const json_t *view, const json_t *trace)
{
	static const char *const counters[] = {"faults", "major",   "installed",
					       "around", "granted", "bytes_read"};
	static const char *const times[] = {"p50", "p99", "max"};
	const json_t *rows = json_object_get(json_object_get(view, "tables"), "totals"), *one;
	const json_t *cases = json_object_get(trace, "cases");
	size_t i;

	ck_assert_uint_eq(json_array_size(rows), json_array_size(cases));
	json_array_foreach(cases, i, one)
	{
		const json_t *row = json_array_get(rows, i);
		ck_assert_str_eq(json_string_value(json_array_get(row, 0)), string(one, "case"));
		for (size_t c = 0; c < COUNT(counters); c++)
			expect_cell(row, 1 + c, json_object_get(one, counters[c]));
		for (size_t t = 0; t < COUNT(times); t++)
			expect_cell(row, 7 + t,
				    json_object_get(json_object_get(one, "latency_ns"), times[t]));
	}
}

/* --- tests ---------------------------------------------------------------------------------- */

START_TEST(draws_what_was_recorded)
{
	const char *trace = make_trace(false, RECORDS, 17);
	json_t *views = look(make_page(trace)), *numbers = sums(trace), *view;
	size_t i;

	json_array_foreach(views, i, view)
	{
		expect_quiet(view);
		expect_charts(view);
		expect_totals(view, numbers);
		ck_assert_str_eq(string(view, "heading"), "Faults of web");
		ck_assert(strstr(string(view, "text"), "30,000") != NULL);
		ck_assert(strstr(string(view, "text"), "17 records were overwritten") != NULL);
		ck_assert(strstr(string(view, "text"), "Not recorded: this trace") != NULL);
	}
	json_decref(views);
	json_decref(numbers);
}
END_TEST

/* Names of a trace are shown as they are: in tables, in charts, in the title. */
START_TEST(hostile_names)
{
	const char *trace = make_trace(true, RECORDS, 0);
	json_t *views = look(make_page(trace)), *numbers = sums(trace), *view;
	size_t i;

	json_array_foreach(views, i, view)
	{
		const json_t *files = json_object_get(json_object_get(view, "tables"), "files");
		expect_quiet(view);
		expect_charts(view);
		expect_totals(view, numbers);
		ck_assert_str_eq(json_string_value(json_array_get(json_array_get(files, 0), 1)),
				 EVIL_COMMENT);
	}
	json_decref(views);
	json_decref(numbers);
}
END_TEST

/* What is whole of it is shown, and that it is not all; the file's name is hostile, too. */
START_TEST(cut_short)
{
	const char *whole = make_trace(false, RECORDS, 0);
	const char *cut = scratch_keep(scratch("<script>pwned=4<!--.trace"));
	const char *page = scratch_keep(scratch("page.html"));
	struct stat st;
	json_t *view;
	size_t i;

	ck_assert_int_eq(stat(whole, &st), 0);
	ck_assert_int_eq(rename(whole, cut), 0);
	ck_assert_int_eq(truncate(cut, st.st_size / 2), 0);
	expect(RUN(FOAL, "report", cut, "-o", page), FOAL_EXIT_TRACE, "cut short; the ");
	json_t *views = look(page), *numbers = sums(cut);
	json_array_foreach(views, i, view)
	{
		const char *note =
		    json_string_value(json_array_get(json_object_get(view, "notes"), 0));
		expect_quiet(view);
		expect_charts(view);
		expect_totals(view, numbers);
		ck_assert_msg(note && strstr(note, "cut short; the 12288 records before that") &&
				  strstr(note, "<script>pwned=4<!--"),
			      "%s", note);
	}
	json_decref(views);
	json_decref(numbers);
}
END_TEST

static const struct {
	const char *who, *name;
	unsigned faults;
} kvm_rows[] = {{"handler", "foal's handlers", 2000},
		{"host", "the host kernel", 3000},
		{"again", "tried again", 2000},
		{"outside", "no memory", 1000}};

/* A chart and a table each say of each kind what foal trace --json says. */
static void expect_kvm(const json_t *view, const json_t *trace)
{
	const json_t *charts = json_object_get(view, "charts"),
		     *tables = json_object_get(view, "tables"),
		     *points = json_object_get(json_object_get(trace, "kvm"), "tracepoints");

	expect_drawn(json_object_get(charts, "kvm"), "the chart of KVM's faults");
	expect_drawn(json_object_get(charts, "kvm-times"), "the chart of their times");
	expect_drawn(json_object_get(charts, "space"), "the map");
	for (size_t i = 0; i < COUNT(kvm_rows); i++) {
		const json_t *row = json_array_get(json_object_get(tables, "kvm"), i);
		const json_t *times = json_array_get(json_object_get(tables, "kvm-times"), i);
		const json_t *who = json_object_get(points, kvm_rows[i].who);
		const json_t *ns = json_object_get(who, "exit_to_entry_ns");
		ck_assert_str_eq(json_string_value(json_array_get(row, 0)), kvm_rows[i].name);
		ck_assert_int_eq(json_integer_value(json_object_get(who, "faults")),
				 kvm_rows[i].faults);
		expect_cell(row, 1, json_object_get(who, "faults"));
		expect_cell(times, 1, json_object_get(who, "faults"));
		expect_cell(times, 2, json_object_get(ns, "p50"));
		expect_cell(times, 4, json_object_get(ns, "p99"));
		expect_cell(times, 6, json_object_get(ns, "max"));
	}
}

/* What the host kernel resolved is drawn, too, also where nothing else was recorded. */
START_TEST(what_kvm_told)
{
	const char *trace = make_kvm_trace(_i ? RECORDS : 0, 8000);
	json_t *views = look(make_page(trace)), *numbers = sums(trace), *view;
	size_t i;

	json_array_foreach(views, i, view)
	{
		expect_quiet(view);
		expect_kvm(view, numbers);
		ck_assert(strstr(string(view, "text"), "7,001 exits and 7,002 entries; 7,003 "
						       "samples lost") != NULL);
		ck_assert(strstr(string(view, "text"), "7,004 exits, 7,005 page faults taken, "
						       "7,006 fixed") != NULL);
		if (_i)
			expect_totals(view, numbers);
	}
	json_decref(views);
	json_decref(numbers);
}
END_TEST

START_TEST(nothing_recorded)
{
	json_t *views = look(make_page(make_trace(false, 0, 0))), *view;
	size_t i;

	json_array_foreach(views, i, view)
	{
		ck_assert_str_eq(string(view, "ready"), "yes");
		ck_assert_uint_eq(json_array_size(json_object_get(view, "said")), 0);
		ck_assert(strstr(string(view, "text"), "There is no record in this trace") != NULL);
	}
	json_decref(views);
}
END_TEST

/* A disk that is full: no page, and what had its name before stays. */
START_TEST(full_disk)
{
	const char *trace = make_trace(false, 1000, 0), *page = scratch_keep(scratch("page.html"));
	FILE *old = fopen(page, "we");

	fputs("old", old);
	fclose(old);
	expect(run((const char *const[]){FOAL, "report", trace, "-o", page, NULL}, 100000),
	       FOAL_EXIT_TRACE, "it cannot be written");
	ck_assert_str_eq(text_of(page), "old");
	expect(RUN(FOAL, "report", trace, "-o", "/dev/full"), FOAL_EXIT_TRACE, "/dev/full");
	expect(RUN(FOAL, "report", trace, "-o", "/nowhere/page.html"), FOAL_EXIT_TRACE, "/nowhere");
}
END_TEST

START_TEST(command_line)
{
	const char *trace = make_trace(false, 10, 0), *page = scratch_keep(scratch("page.html"));
	struct ended ended;

	expect(RUN(FOAL, "report", trace), FOAL_EXIT_USAGE, "-o PAGE is needed");
	expect(RUN(FOAL, "report", trace, "-o", ""), FOAL_EXIT_USAGE, "-o PAGE is needed");
	expect(RUN(FOAL, "report", trace, "-o"), FOAL_EXIT_USAGE, "needs a value");
	expect(RUN(FOAL, "report", "-o", page), FOAL_EXIT_USAGE, "is needed");
	expect(RUN(FOAL, "report", trace, "x", "-o", page), FOAL_EXIT_USAGE, "x: not taken");
	expect(RUN(FOAL, "report", trace, "--x", "-o", page), FOAL_EXIT_USAGE,
	       "--x: no such option");
	expect(RUN(FOAL, "report", "/nowhere", "-o", page), FOAL_EXIT_TRACE, "/nowhere");
	expect(RUN(FOAL, "report", "Makefile", "-o", page), FOAL_EXIT_TRACE, "no trace");
	ck_assert_int_ne(access(page, F_OK), 0);
	ended = RUN(FOAL, "report", trace, "-o", "-");
	ck_assert_int_eq(ended.status, 0);
	ck_assert_str_eq(ended.err, "");
	ck_assert_ptr_eq(strstr(ended.out, "<!doctype html>"), ended.out);
}
END_TEST

/* Of a foal without the page, or with a wrong one, one line says how to get it. */
START_TEST(no_page)
{
	const char *trace = make_trace(false, 10, 0), *foal = scratch_keep(scratch("foal"));
	const char *page = scratch_keep(scratch("foal-report.html"));

	ck_assert_int_eq(RUN("cp", FOAL, foal).status, 0);
	expect(RUN(foal, "report", trace, "-o", "-"), FOAL_EXIT_HOST, "make report-page");
	ck_assert_int_eq(RUN("cp", "README.md", page).status, 0);
	expect(RUN(foal, "report", trace, "-o", "-"), FOAL_EXIT_HOST, "make report-page");
	ck_assert_int_eq(RUN("cp", PAGE, page).status, 0);
	ck_assert_int_eq(RUN(foal, "report", trace, "-o", "-").status, 0);
}
END_TEST

static Suite *report_page_suite(void)
{
	Suite *suite = suite_create("report_page");
	TCase *tc = tcase_create("report_page");

	tcase_set_timeout(tc, 300);
	tcase_add_test(tc, draws_what_was_recorded);
	tcase_add_test(tc, hostile_names);
	tcase_add_test(tc, cut_short);
	tcase_add_loop_test(tc, what_kvm_told, 0, 2);
	tcase_add_test(tc, nothing_recorded);
	tcase_add_test(tc, full_disk);
	tcase_add_test(tc, command_line);
	tcase_add_test(tc, no_page);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(int argc, char **argv)
{
	static Suite *(*const suites[])(void) = {report_page_suite};

	return run_suites(suites, COUNT(suites), argc ? argv + 1 : argv);
}
