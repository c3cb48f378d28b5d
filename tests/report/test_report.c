/*
 * foal report from trace to browser: the page opens from a file, draws each of its charts, says
 * what foal trace says, asks for nothing, and takes no text of a trace for anything else. Run from
 * the top of the tree.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/report/report_rig.h"
#include "tests/run_suites.h"
#include "tests/scratch.h"

#define LOOK "tests/report/look.mjs"

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
static void expect_kvm(const json_t *view, const json_t *trace, const char *symbol)
{
	const json_t *charts = json_object_get(view, "charts"),
		     *tables = json_object_get(view, "tables"),
		     *points = json_object_get(json_object_get(trace, "kvm"), "tracepoints");

	expect_drawn(json_object_get(charts, "kvm"), "the chart of KVM's faults");
	expect_drawn(json_object_get(charts, "kvm-times"), "the chart of their times");
	expect_drawn(json_object_get(charts, "space"), "the map");
	const json_t *rip = json_array_get(json_object_get(tables, "rips"), 0);
	ck_assert_str_eq(json_string_value(json_array_get(rip, 0)), "0xffffffff81000000");
	ck_assert_str_eq(json_string_value(json_array_get(rip, 1)), symbol);
	expect_cell(rip, 2,
		    json_object_get(json_array_get(json_object_get(points, "rips"), 0), "faults"));
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

/* The same with a kernel of one function, at the RIP of all faults. */
static const char *make_named_page(const char *trace)
{
	const char *page = scratch_keep(scratch("page.html"));
	const char *object = scratch_keep(scratch("kernel.o"));
	const char *kernel = scratch_keep(scratch("kernel.elf"));

	ck_assert_int_eq(RUN("sh", "-c", "echo 'touch: nop' | as -o \"$0\" -", object).status, 0);
	ck_assert_int_eq(RUN("ld", "-Ttext=0xffffffff81000000", "-e0", object, "-o", kernel).status,
			 0);
	ck_assert_int_eq(RUN(FOAL, "report", trace, "-o", page, "--symbols", kernel).status, 0);
	return page;
}

/* What the host kernel resolved is drawn, too, also where nothing else was recorded. */
START_TEST(what_kvm_told)
{
	const char *trace = make_kvm_trace(_i ? RECORDS : 0, 8000);
	json_t *views = look(_i ? make_named_page(trace) : make_page(trace)),
	       *numbers = sums(trace), *view;
	size_t i;

	json_array_foreach(views, i, view)
	{
		expect_quiet(view);
		expect_kvm(view, numbers, _i ? "touch+0x0" : "not known");
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
	expect(RUN(FOAL, "report", trace, "-o", page, "--symbols", "Makefile"), FOAL_EXIT_TRACE,
	       "--symbols Makefile: not an ELF file");
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
	static Suite *(*const suites[])(void) = {report_page_suite, viewer_suite};

	return run_suites(suites, COUNT(suites), argc ? argv + 1 : argv);
}
